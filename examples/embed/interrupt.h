/* interrupt: Ctrl-C and termination end a command in order, so that no half-written file stays. */
#ifndef EMBED_PROGRAM_INTERRUPT_H
#define EMBED_PROGRAM_INTERRUPT_H

/* From now on SIGINT, SIGTERM and SIGHUP only set a flag; blocking reads return at once. */
void interrupt_catch(void);
int interrupt_seen(void);
/* After the clean-up: if a signal was seen, die of it, as the shell expects; else return. */
void interrupt_obey(void);

#endif
