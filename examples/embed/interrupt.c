#include "interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t signal_seen;

static void note(int number) {
    signal_seen = number;
}

void interrupt_catch(void) {
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = note, .sa_flags = 0}; /* no SA_RESTART: reads return */
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old;
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup stays */
            sigaction(numbers[i], &action, NULL);
    }
}

int interrupt_seen(void) {
    return signal_seen != 0;
}

void interrupt_obey(void) {
    if (!signal_seen)
        return;
    signal(signal_seen, SIG_DFL);
    raise(signal_seen);
}
