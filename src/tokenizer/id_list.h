/* id_list: the token ids of one text, growing. */
#ifndef EMB_TOKENIZER_ID_LIST_H
#define EMB_TOKENIZER_ID_LIST_H

#include "base/alloc.h"

typedef struct emb_id_list {
    int32_t *ids;
    size_t n, cap;
} emb_id_list;

static inline embed_status emb_ids_reserve(emb_id_list *list, const emb_env *env, size_t more) {
    void *ids = list->ids;
    if (more <= list->cap - list->n)
        return EMBED_OK;
    const embed_status st = emb_grow(env, &ids, &list->cap, list->n + more, sizeof *list->ids);
    list->ids = ids;
    return st;
}

static inline embed_status emb_ids_push(emb_id_list *list, const emb_env *env, int32_t id) {
    const embed_status st = emb_ids_reserve(list, env, 1);
    if (st == EMBED_OK)
        list->ids[list->n++] = id;
    return st;
}

#endif
