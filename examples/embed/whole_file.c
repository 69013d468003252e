#define _GNU_SOURCE /* realpath */
#include "whole_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

int whole_file_open(whole_file *w, const char *who, const char *path) {
    *w = (whole_file){.who = who, .name = path};
    if (!path || strcmp(path, "-") == 0) {
        w->name = "standard output";
        w->file = stdout;
        return EXIT_OK;
    }
    struct stat st;
    const int exists = stat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode)) {
        w->file = fopen(path, "w");
        return w->file ? EXIT_OK : tool_fail(who, "%s: %s", path, strerror(errno));
    }
    w->target = exists ? realpath(path, NULL) : strdup(path); /* a link stays a link */
    w->tmp = w->target ? malloc(strlen(w->target) + sizeof ".tmp") : NULL;
    if (!w->tmp)
        return tool_fail(who, "%s: %s", path, strerror(errno));
    strcpy(w->tmp, w->target);
    strcat(w->tmp, ".tmp");
    w->file = fopen(w->tmp, "w");
    if (w->file)
        return EXIT_OK;
    const int code = tool_fail(who, "%s: %s", w->tmp, strerror(errno));
    free(w->tmp);
    w->tmp = NULL; /* not ours to remove */
    return code;
}

int whole_file_finish(whole_file *w) {
    int good = fflush(w->file) == 0 && !ferror(w->file);
    if (w->tmp) {
        good = good && fsync(fileno(w->file)) == 0;
        good = fclose(w->file) == 0 && good;
        w->file = NULL;
        good = good && rename(w->tmp, w->target) == 0;
        if (good) {
            free(w->tmp);
            w->tmp = NULL;
        }
    }
    return good ? EXIT_OK : tool_fail(w->who, "%s: %s", w->name, strerror(errno));
}

void whole_file_close(whole_file *w) {
    if (w->file && w->file != stdout)
        fclose(w->file);
    if (w->tmp)
        remove(w->tmp);
    free(w->tmp);
    free(w->target);
    *w = (whole_file){0};
}
