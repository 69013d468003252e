/* The reader of yyjson as file-local functions of the one file that includes this (io/json.c), so
 * that no yyjson symbol leaves the library and clashes with the program's own copy. */
#if defined(__GNUC__)
#pragma GCC system_header /* vendored code is not held to our warnings */
#endif
#define yyjson_api static
#define YYJSON_DISABLE_WRITER 1
#define YYJSON_DISABLE_UTILS 1
#include "third_party/yyjson/yyjson.c"
