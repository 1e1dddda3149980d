/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_BENCH_GUEST_H
#define UMBRA_BENCH_GUEST_H

/* Shared by the guest's code (assembler) and the client. */
#define GUEST_PORT 0x10	      /* goes to the client */
#define GUEST_PORT_EVENT 0x20 /* an ioeventfd's */
#define GUEST_PORT_DONE 0xf4
#define GUEST_MMIO 0x200000	  /* no memory slot here */
#define GUEST_MMIO_EVENT 0x200800 /* an ioeventfd's */
#define GUEST_VECTOR 0x40

#endif
