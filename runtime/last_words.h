/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_LAST_WORDS_H
#define UMBRA_LAST_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* Text put together without stdio, for signal handlers. Always NUL-terminated; what does not fit is cut off. */
struct words {
	size_t used;
	char text[256];
};
void words_add(struct words *words, const char *text);
void words_add_number(struct words *words, unsigned long value, unsigned int base);

/* Where sandbox_die() and the handlers report to, besides stderr; -1: stderr only. */
void last_words_to(int control_fd);

/* Handlers for SIGSYS (a forbidden system call) and for crashes. They cannot be replaced once seccomp is on. */
int last_words_install(void);

/* Sends the text and ends the process with this status. */
_Noreturn void last_words(const char *text, int status);

#endif
