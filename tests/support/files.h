/* files: small files in a directory of the test's own. */
#ifndef EMB_TESTS_SUPPORT_FILES_H
#define EMB_TESTS_SUPPORT_FILES_H

#include "support/test.h"

/* Makes a new directory under TMPDIR or /tmp and writes its path to dir. */
void test_dir_make(char dir[256]);
void test_dir_remove(const char *dir); /* with everything in it */
/* "dir/name"; one of 8 buffers in turn. */
const char *test_path(const char *dir, const char *name);
/* Write dir/name, making folders named in it; len < 0: text is NUL-terminated. */
void test_write(const char *dir, const char *name, const void *data, long len);

#endif
