/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_BENCH_LOOPS_H
#define UMBRA_BENCH_LOOPS_H

#include "bench.h"

uint64_t loops_now(void); /* nanoseconds */

/* io.c */
void io_begin(void);
void disk_begin(void);
void disk_end(void);
uint64_t disk_read_loop(unsigned long n);
uint64_t disk_write_loop(unsigned long n);
void request_begin(void);
void send_begin(void);
void receive_begin(void);
void network_end(void);
uint64_t network_loop(unsigned long n);

#endif
