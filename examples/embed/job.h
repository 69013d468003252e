/* job: how the long `embed ngram` commands run: memory, temporary files, threads and resuming from
 * the command line; on stderr first what the job will need, then one line with phase, rate and
 * remaining time, redrawn in place; an end in order when the user interrupts.
 *
 *     job run = {0};
 *     ... OPTION_MEMORY(run.memory), OPTION_TEMP(run.temp), OPTION_THREADS(run.threads),
 *         OPTION_RESUME(run.resume), OPTION_PROGRESS(run.progress), OPTIONS_END ...
 *     job_start(&run, argv[0], &params.job);
 *     code = job_end(&run, embed_ngram_...(..., &params)); */
#ifndef EMBED_PROGRAM_JOB_H
#define EMBED_PROGRAM_JOB_H

#include "tool.h"

typedef struct job {
    uint64_t memory; /* the options; 0 or NULL: the default */
    const char *temp;
    int32_t threads, resume, progress;
    const char *who; /* from here on kept by the calls below */
    int shown, terminal, announced;
    char phase[48];
    uint64_t phase_first;             /* `done` when the phase began: a resumed one is not 0 */
    double start, phase_start, drawn; /* seconds */
} job;

#define OPTION_MEMORY(variable)                                                                    \
    {                                                                                              \
        "run", "memory", "SIZE", "memory to use at most (1GiB)", &(variable), NULL, OPTION_SIZE,   \
            1, 0, 'S'                                                                              \
    }
#define OPTION_TEMP(variable)                                                                      \
    {                                                                                              \
        "run", "temp-dir", "DIR", "directory for temporary files (beside the output)",             \
            &(variable), NULL, OPTION_TEXT, 0, 0, 'T'                                              \
    }
#define OPTION_RESUME(variable)                                                                    \
    {                                                                                              \
        "run", "resume", NULL, "go on where a killed run of this command stopped", &(variable),    \
            NULL, OPTION_FLAG, 0, 0, 0                                                             \
    }
/* For jobs of seconds. */
#define OPTION_AGAIN(variable)                                                                     \
    {                                                                                              \
        "run", "resume", NULL,                                                                     \
            "begin again, as without: this takes seconds, and a\n"                                 \
            "killed run leaves nothing to go on from",                                             \
            &(variable), NULL, OPTION_FLAG, 0, 0, 0                                                \
    }
#define OPTION_PROGRESS(variable)                                                                  \
    {                                                                                              \
        "run", "progress", NULL, "report progress even if stderr is no terminal", &(variable),     \
            NULL, OPTION_FLAG, 0, 0, 0                                                             \
    }

/* Fill *out from the options, with a report callback whose user is `j`; from now on an interrupt
 * ends the job. */
void job_start(job *j, const char *who, embed_job *out);
/* Remove the line. A failed status is told on stderr, a cancelled one is not: the user did it.
 * Returns an exit code; call interrupt_obey() after the clean-up. */
int job_end(job *j, embed_status status);
/* Seconds since job_start. */
double job_seconds(const job *j);

#endif
