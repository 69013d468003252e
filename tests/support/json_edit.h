/* json_edit: JSON objects of a test, written one member a line and changed member by member. */
#ifndef EMB_TESTS_SUPPORT_JSON_EDIT_H
#define EMB_TESTS_SUPPORT_JSON_EDIT_H

#include "support/test.h"

typedef struct test_edit {
    const char *key;   /* NULL ends a list of edits */
    const char *value; /* its new value as JSON; NULL: leave the member out */
} test_edit;

/* Write dir/name: the members of `base` ("\"key\": value\n" each) with the edits applied; members
 * that base lacks are added. */
void test_write_json(const char *dir, const char *name, const char *base, const test_edit *edits);

#endif
