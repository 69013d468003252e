#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct unit {
    const char *name; /* in any case */
    uint64_t factor;
} unit;

static const unit sizes[] = {{"", 1},           {"B", 1},
                             {"K", 1ull << 10}, {"KiB", 1ull << 10},
                             {"M", 1ull << 20}, {"MiB", 1ull << 20},
                             {"G", 1ull << 30}, {"GiB", 1ull << 30},
                             {"T", 1ull << 40}, {"TiB", 1ull << 40},
                             {NULL, 0}};
static const unit amounts[] = {{"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};

static int parse(const unit *units, const char *text, uint64_t *value) {
    char number[32];
    const size_t digits = strspn(text, "0123456789."), whole = strspn(text, "0123456789");
    if (whole == 0 || digits >= sizeof number)
        return 0;
    memcpy(number, text, digits);
    number[digits] = '\0';
    while (units->name && strcasecmp(units->name, text + digits) != 0)
        units++;
    if (!units->name)
        return 0;
    if (whole == digits) {
        uint64_t n = 0;
        for (size_t i = 0; i < digits; i++) {
            const uint64_t digit = (uint64_t)(number[i] - '0');
            if (n > (UINT64_MAX - digit) / 10)
                return 0;
            n = 10 * n + digit;
        }
        *value = n * units->factor;
        return n <= UINT64_MAX / units->factor;
    }
    char *end;
    const double scaled = strtod(number, &end) * (double)units->factor;
    if (*end || units->factor == 1 || scaled >= 1.8e19) /* two points; half a byte */
        return 0;
    *value = (uint64_t)(scaled + 0.5);
    return 1;
}

int units_parse_size(const char *text, uint64_t *bytes) {
    return parse(sizes, text, bytes);
}

int units_parse_amount(const char *text, uint64_t *amount) {
    return parse(amounts, text, amount);
}

/* Three digits, whatever their size. */
static void print_scaled(double value, const char *name, char out[16]) {
    snprintf(out, 16,
             value < 9.995   ? "%.2f %s"
             : value < 99.95 ? "%.1f %s"
                             : "%.0f %s",
             value, name);
}

const char *units_size(uint64_t bytes, char out[16]) {
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, 16, "%u B", (unsigned)bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    size_t i = 0;
    for (; value >= 1023.5 && i + 1 < sizeof names / sizeof names[0]; i++)
        value /= 1024;
    print_scaled(value, names[i], out);
    return out;
}

const char *units_amount(double amount, char out[16]) {
    static const char *const names[] = {"k", "M", "G", "T"};
    if (!(amount >= 999.5)) {
        snprintf(out, 16, "%.0f", amount);
        return out;
    }
    size_t i = 0;
    for (amount /= 1e3; amount >= 999.5 && i + 1 < sizeof names / sizeof names[0]; i++)
        amount /= 1e3;
    print_scaled(amount, names[i], out);
    return out;
}
