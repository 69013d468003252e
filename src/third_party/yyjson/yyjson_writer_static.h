/* The writer of yyjson as file-local functions of the one file that includes this
 * (io/json_write.c); see yyjson_static.h. */
#if defined(__GNUC__)
#pragma GCC system_header /* vendored code is not held to our warnings */
#endif
#define yyjson_api static
#define YYJSON_DISABLE_READER 1
#define YYJSON_DISABLE_UTILS 1
#include "third_party/yyjson/yyjson.c"
