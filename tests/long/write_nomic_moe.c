/* write_nomic_moe DIR TOKENIZER: the random checkpoint of support/nomic_moe.h, for the benchmarks.
 */
#include "support/nomic_moe.h"

#include <stdio.h>

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s DIR TOKENIZER\n", argv[0]);
        return 2;
    }
    return test_write_nomic_moe(argv[1], argv[2]) == 0 ? 0 : 1;
}
