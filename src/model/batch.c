#include "model/batch.h"

/* Heap sort, in place and without allocation: the children of i are 2i + 1 and 2i + 2, and the
 * smallest entry is on top, so that the sorted order is descending. */
static void sift_down(uint64_t *a, size_t i, size_t n) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && a[child + 1] < a[child])
            child++;
        if (a[i] <= a[child])
            return;
        const uint64_t swap = a[i];
        a[i] = a[child];
        a[child] = swap;
    }
}

static void sort_descending(uint64_t *a, size_t n) {
    for (size_t i = n / 2; i-- > 0;)
        sift_down(a, i, n);
    for (size_t end = n; end-- > 1;) {
        const uint64_t smallest = a[0];
        a[0] = a[end];
        a[end] = smallest;
        sift_down(a, 0, end);
    }
}

size_t emb_batch_sort(const emb_item *items, size_t n, uint64_t *order, int64_t *tokens) {
    size_t ready = 0;
    *tokens = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].tokens != EMB_ITEM_PENDING) {
            /* the complement of the number makes earlier items greater among equal lengths */
            order[ready++] = (uint64_t)items[i].tokens << 32 | (~(uint64_t)i & UINT32_MAX);
            *tokens += items[i].tokens;
        }
    sort_descending(order, ready);
    return ready;
}

int64_t emb_batch_target(int64_t tokens, int64_t batch_tokens) {
    const int64_t batches = (tokens + batch_tokens - 1) / batch_tokens;
    return batches > 0 ? (tokens + batches - 1) / batches : 1;
}

size_t emb_batch_take(const uint64_t *order, size_t n, int64_t batch_tokens, int64_t target,
                      int64_t max_texts) {
    int64_t tokens = 0;
    size_t taken = 0;
    while (taken < n && (int64_t)taken < max_texts && tokens < target) {
        const int64_t more = emb_order_tokens(order[taken]);
        if (taken > 0 && tokens + more > batch_tokens)
            break;
        tokens += more;
        taken++;
    }
    return taken;
}
