// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A hostile guest: deterministic from the seed on its command line ("seed=N ops=N what=MASK"). It tries MSRs, CPUID, ports, the
 * registers of the interrupt controllers, instructions of all forms on MMIO, page tables that a second CPU changes meanwhile,
 * paravirtual structures at bad addresses, APIC and timer modes. It survives what traps, and says how far it came.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

extern u8 stubs[], trampoline[], trampoline_end[];
extern u64 boot_info, interrupts;
extern u64 pml4[], pdpt[], pd[];
int attempt(void (*what)(void));
void shutdown(void);
void hostile_main(void);
void hostile_trapped(u64 vector, u64 rip);
void second_main(void);

#define WINDOW 0x40000000UL /* gva: 512 pages of a table that changes */
#define LAPIC 0xfee00000UL
#define IOAPIC 0xfec00000UL
#define SERIAL 0x3f8

static u64 seed, traps, done_ops;
static u64 idt[512] __attribute__((aligned(4096)));
static volatile u64 window[512] __attribute__((aligned(4096)));
static u8 code[2 * 4096] __attribute__((aligned(4096)));
static u8 ram[4 * 4096] __attribute__((aligned(4096)));
static volatile u64 second_runs;

static u64 rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* ---- console ---- */

static void outb(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void print(const char *s)
{
	for (; *s; s++)
		outb(SERIAL, (u8)*s);
}

static void print_number(u64 n, u64 base)
{
	char text[24], *at = text + 23;

	*at = 0;
	do
		*--at = "0123456789abcdef"[n % base];
	while (n /= base);
	print(at);
}

static void print_line(const char *what, u64 n)
{
	print("hostile: ");
	print(what);
	print(" ");
	print_number(n, 10);
	print("\n");
}

void hostile_trapped(u64 vector, u64 rip)
{
	print_line("trapped outside an attempt: vector", vector);
	print_number(rip, 16);
	print("\n");
	shutdown();
}

static const char *command_line(void)
{
	return *(u64 *)(boot_info + 24) ? (const char *)*(u64 *)(boot_info + 24) : "";
}

static u64 option(const char *name, u64 otherwise)
{
	const char *s = command_line(), *n;
	u64 value = 0;

	for (; *s; s++) {
		const char *at = s;

		for (n = name; *n && *at == *n; n++, at++)
			;
		if (*n || *at != '=')
			continue;
		for (at++; *at >= '0' && *at <= '9'; at++)
			value = value * 10 + (u64)(*at - '0');
		return value;
	}
	return otherwise;
}

/* ---- numbers ---- */

static u64 nasty(void)
{
	static const u64 values[] = {
		0,	   1,	       2,	   3,		0xff,		0x100,		0x7fff,
		0xffff,	   0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffff, 0x800000000000, 0xffff800000000000,
		1UL << 63, ~0UL,       0xfee00900, 0xfee00d00,	0xfee00000
	};

	switch (rnd() & 3) {
	case 0:
		return rnd();
	case 1:
		return rnd() & 0xffff;
	default:
		return values[rnd() % (sizeof(values) / sizeof(values[0]))];
	}
}

/* Guest-physical addresses where structures do not belong. */
static u64 bad_address(void)
{
	static const u64 values[] = { 0,	   0xfff,	    0x9fffe,   0xa0000,	   0xf0000,
				      0xfffff,	   LAPIC,	    IOAPIC,    0xd0000000, 0xfffffff0,
				      0x100000000, 0xffffffffff000, 1UL << 46, 1UL << 52,  ~0UL,
				      ~0UL - 62,   0x3fffffd,	    0x4000000, 0x3fffffc };

	return rnd() & 7 ? values[rnd() % (sizeof(values) / sizeof(values[0]))] + (rnd() & 3 ? 0 : rnd() & 63)
			 : (u64)ram + (rnd() & 4095);
}

/* ---- operations: each is one attempt ---- */

static u64 arg[4];
static u64 verbose;

static void try_it(void (*what)(void))
{
	u64 i, trap;

	if (verbose) {
		print("op ");
		print_number((u64)what, 16);
		for (i = 0; i < 4; i++) {
			print(" ");
			print_number(arg[i], 16);
		}
		if ((u8 *)arg[0] >= code && (u8 *)arg[0] < code + sizeof(code)) {
			print(" code ");
			for (i = 0; i < 12; i++) {
				print_number(((u8 *)arg[0])[i], 16);
				print(" ");
			}
		}
		print("\n");
	}
	trap = (u64)attempt(what);
	traps += trap != 0;
	if (verbose && trap)
		print_line("trap", trap - 1);
}

static void do_rdmsr(void)
{
	__asm__ volatile("rdmsr" : : "c"((u32)arg[0]) : "eax", "edx");
}

static void do_wrmsr(void)
{
	__asm__ volatile("wrmsr" : : "c"((u32)arg[0]), "a"((u32)arg[1]), "d"((u32)(arg[1] >> 32)) : "memory");
}

static void do_cpuid(void)
{
	u32 a = (u32)arg[0], c = (u32)arg[1];

	__asm__ volatile("cpuid" : "+a"(a), "+c"(c) : : "ebx", "edx");
}

static void op_cpuid(void)
{
	static const u32 bases[] = { 0, 0x40000000, 0x80000000, 0x8fffffff, 0xc0000000, 0x40000100 };

	arg[0] = rnd() & 7 ? bases[rnd() % 6] + (u32)(rnd() & 63) : rnd();
	arg[1] = rnd() & 3 ? rnd() & 63 : rnd();
	try_it(do_cpuid);
}

static u32 msr_number(void)
{
	static const u32 msrs[] = { 0x10,	0x11,	    0x1b,	0x3a,	    0x3b,	0x48,	    0x49,
				    0x79,	0x8b,	    0xc1,	0xe7,	    0xe8,	0xfe,	    0x10a,
				    0x10b,	0x122,	    0x140,	0x174,	    0x175,	0x176,	    0x179,
				    0x17a,	0x17b,	    0x186,	0x198,	    0x19a,	0x1a0,	    0x1d9,
				    0x277,	0x2ff,	    0x345,	0x38d,	    0x38f,	0x390,	    0x400,
				    0x401,	0x402,	    0x47f,	0x480,	    0x48d,	0x491,	    0x570,
				    0x6e0,	0xd90,	    0xda0,	0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03,
				    0x4b564d04, 0x4b564d05, 0x4b564d06, 0x4b564d07, 0x4b564d08, 0x40000000, 0x40000001,
				    0x40000020, 0x40000073, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
				    0xc0000101, 0xc0000102, 0xc0000103, 0xc0000104, 0xc0010010, 0xc0010015, 0xc001001f,
				    0xc0010055, 0xc0010114, 0xc0010117, 0xc0011029, 0xc0010131 };

	switch (rnd() & 7) {
	case 0:
		return (u32)rnd();
	case 1:
		return 0x200 + (u32)(rnd() & 0x7f); /* MTRRs and their neighbours */
	case 2:
		return 0x800 + (u32)(rnd() & 0x3f); /* x2APIC */
	default:
		return msrs[rnd() % (sizeof(msrs) / sizeof(msrs[0]))];
	}
}

static void op_msr(void)
{
	arg[0] = msr_number();
	arg[1] = nasty();
	if (arg[0] == 0x830 || arg[0] == 0x83f)
		arg[1] &= ~0x1fff00UL; /* not INIT or SIPI to all */
	if (arg[0] == 0x1b)
		arg[1] = LAPIC | 0x900; /* the mode has its own operation */
	try_it(rnd() & 1 ? do_rdmsr : do_wrmsr);
}

static void do_port(void)
{
	u16 port = (u16)arg[0];
	u32 value = (u32)arg[1];
	void *at = (void *)arg[2];
	u64 count = arg[3] >> 8;

	switch (arg[3] & 15) {
	case 0:
		__asm__ volatile("outb %b0, %1" : : "a"(value), "d"(port));
		break;
	case 1:
		__asm__ volatile("outw %w0, %1" : : "a"(value), "d"(port));
		break;
	case 2:
		__asm__ volatile("outl %0, %1" : : "a"(value), "d"(port));
		break;
	case 3:
		__asm__ volatile("inb %1, %b0" : "+a"(value) : "d"(port));
		break;
	case 4:
		__asm__ volatile("inw %1, %w0" : "+a"(value) : "d"(port));
		break;
	case 5:
		__asm__ volatile("inl %1, %0" : "+a"(value) : "d"(port));
		break;
	case 6:
		__asm__ volatile("rep insb" : "+D"(at), "+c"(count) : "d"(port) : "memory");
		break;
	case 7:
		__asm__ volatile("rep insl" : "+D"(at), "+c"(count) : "d"(port) : "memory");
		break;
	case 8:
		__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(port) : "memory");
		break;
	case 9:
		__asm__ volatile("rep outsw" : "+S"(at), "+c"(count) : "d"(port) : "memory");
		break;
	case 10:
		__asm__ volatile("std; rep insw; cld" : "+D"(at), "+c"(count) : "d"(port) : "memory");
		break;
	case 11:
		__asm__ volatile("std; rep outsl; cld" : "+S"(at), "+c"(count) : "d"(port) : "memory");
		break;
	}
}

static void op_port(void)
{
	static const u16 ports[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40,  0x41,
				     0x42, 0x43, 0x61, 0x70, 0x71,  0x80,  0xcf8, 0xcfc };
	u16 port = rnd() & 7 ? ports[rnd() % 16] : (u16)rnd();

	/* What ends the machine, and QEMU's own business: resets, power, firmware configuration, the console. */
	if (port == 0x64 || port == 0x92 || (port >= 0xb0 && port < 0xb8) || (port >= 0xcf0 && port < 0xd00) ||
	    (port >= 0x500 && port < 0x720) || (port >= 0x3f0 && port < 0x400) || port >= 0xafe0)
		port = 0x43;
	arg[0] = port;
	arg[1] = nasty();
	arg[3] = rnd() % 12 | (rnd() & 3 ? rnd() & 31 : rnd() & 2047) << 8;
	switch (rnd() & 3) {
	case 0:
		arg[2] = WINDOW + (rnd() & 0x1fffff);
		break;
	case 1:
		arg[2] = bad_address();
		break;
	default:
		arg[2] = (u64)ram + 4096 + (rnd() & 4095);
	}
	try_it(do_port);
}

/* An instruction form on MMIO; bytes of it, then RETs. */
static void do_code(void)
{
	u64 a = arg[3], b = 3, c = (arg[3] >> 32) & 3, d = 0x1f0, source = arg[2], to = arg[1];

	__asm__ volatile("call *%[code]"
			 : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(source), "+D"(to)
			 : [code] "m"(arg[0])
			 : "memory", "r8", "r9", "r10", "r11", "r14", "r15", "cc");
}

static u8 *emit(u8 *at, const char *bytes, u64 count)
{
	while (count--)
		*at++ = (u8)*bytes++;
	return at;
}

static void op_instruction(int odd)
{
	/* What Linux and firmware use, and their neighbours. */
	static const struct {
		u8 size, modrm, imm;
		char bytes[4];
	} forms[] = {
		{ 1, 1, 0, "\x88" },
		{ 1, 1, 0, "\x89" },
		{ 1, 1, 0, "\x8a" },
		{ 1, 1, 0, "\x8b" },
		{ 1, 1, 1, "\xc6" },
		{ 1, 1, 4, "\xc7" },
		{ 2, 1, 0, "\x0f\xb6" },
		{ 2, 1, 0, "\x0f\xb7" },
		{ 2, 1, 0, "\x0f\xbe" },
		{ 2, 1, 0, "\x0f\xbf" },
		{ 1, 1, 0, "\x63" },
		{ 1, 0, 0, "\xa4" },
		{ 1, 0, 0, "\xa5" },
		{ 1, 0, 0, "\xaa" },
		{ 1, 0, 0, "\xab" },
		{ 1, 0, 0, "\xac" },
		{ 1, 0, 0, "\xad" },
		{ 1, 1, 0, "\x01" },
		{ 1, 1, 0, "\x09" },
		{ 1, 1, 0, "\x21" },
		{ 1, 1, 0, "\x31" },
		{ 1, 1, 0, "\x29" },
		{ 1, 1, 0, "\x39" },
		{ 1, 1, 0, "\x85" },
		{ 1, 1, 0, "\x87" },
		{ 1, 1, 1, "\x80" },
		{ 1, 1, 4, "\x81" },
		{ 1, 1, 1, "\x83" },
		{ 1, 1, 1, "\xf6" },
		{ 1, 1, 0, "\xff" },
		/* odd ones: the answer may be that nobody can emulate this, and the end of the guest */
		{ 2, 1, 0, "\x0f\xb1" },
		{ 2, 1, 0, "\x0f\xc1" },
		{ 2, 1, 0, "\x0f\xab" },
		{ 2, 1, 1, "\x0f\xba" },
		{ 2, 1, 0, "\x0f\x10" },
		{ 2, 1, 0, "\x0f\x11" },
		{ 2, 1, 0, "\x0f\x29" },
		{ 2, 1, 0, "\x0f\xc3" },
		{ 2, 1, 0, "\x0f\xc7" },
		{ 2, 1, 0, "\x0f\xa3" },
		{ 2, 1, 0, "\x0f\xae" },
		{ 1, 1, 0, "\xd9" },
		{ 1, 1, 0, "\xdd" },
		{ 2, 1, 0, "\x0f\x01" },
		{ 1, 0, 0, "\xa6" },
		{ 1, 0, 0, "\xae" },
		{ 1, 1, 1, "\xc1" },
		{ 1, 1, 0, "\xd3" },
		{ 2, 1, 0, "\x0f\x6f" },
	};
	static const u8 prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x3e, 0x26, 0x64, 0x65, 0x36 };
	u64 n = rnd() % (odd ? sizeof(forms) / sizeof(forms[0]) : 30), crossing = !(rnd() & 7);
	u8 *at = code, *start;
	u64 i;

	for (i = 0; i < 64; i++)
		code[i] = code[4096 - 32 + i] = 0xc3;
	start = at = code + (crossing ? 4096 - 1 - rnd() % 8 : 0);
	for (i = rnd() % (odd ? 4 : 2); i; i--)
		*at++ = prefixes[rnd() % (odd ? sizeof(prefixes) : 2)];
	if (rnd() & 1)
		*at++ = (u8)(0x40 | (rnd() & 0xc)); /* REX: W, R */
	at = emit(at, forms[n].bytes, forms[n].size);
	if (forms[n].modrm) {
		u8 reg = (u8)(rnd() & 7);

		if (reg == 4) /* not rsp, nor rbp */
			reg = 0;
		if (reg == 5)
			reg = 2;
		if (forms[n].bytes[0] == (char)0xc6 || forms[n].bytes[0] == (char)0xc7)
			reg = 0;
		if (forms[n].bytes[0] == (char)0xff)
			reg &= 1; /* INC, DEC; not a jump */
		if (forms[n].bytes[0] == (char)0xf6)
			reg &= 3;
		if (forms[n].size == 2 && forms[n].bytes[1] == 1)
			reg = 7; /* INVLPG */
		if (rnd() & 1) {
			*at++ = (u8)(reg << 3 | 7); /* [rdi] */
		} else {
			*at++ = (u8)(0x40 | reg << 3 | 7); /* [rdi + disp8] */
			*at++ = (u8)rnd();
		}
	}
	for (i = 0; i < forms[n].imm; i++) /* what of it is not taken for an operand is executed */
		*at++ = rnd() & 1 ? 0x90 : 0xc3;
	arg[0] = (u64)start;
	switch (rnd() % 6) {
	case 0:
		arg[1] = LAPIC + (rnd() & 0xff0);
		break;
	case 1:
		arg[1] = LAPIC + (rnd() & 0xfff);
		break;
	case 2:
		arg[1] = IOAPIC + (rnd() & 1 ? (rnd() & 1) << 4 : rnd() & 0xff);
		break;
	case 3:
		arg[1] = bad_address() & 0xffffffff;
		break;
	case 4:
		arg[1] = WINDOW + (rnd() & 0x1ff) * 4096 + (rnd() & 3 ? rnd() & 0xff8 : 4096 - (rnd() & 15));
		break;
	default:
		arg[1] = 0xd0000000 + (rnd() & 0xfff);
	}
	arg[2] = rnd() & 1 ? (u64)ram + (rnd() & 0xfff) : WINDOW + (rnd() & 0x1fffff);
	arg[3] = nasty();
	if (arg[1] >= LAPIC + 0x2f0 && arg[1] < LAPIC + 0x310)
		arg[1] = LAPIC + 0xb0; /* no INIT by chance */
	try_it(do_code);
}

static void lapic_write(u64 reg, u32 value)
{
	*(volatile u32 *)(LAPIC + reg) = value;
}

static void do_apic(void)
{
	static const u16 regs[] = { 0x20,  0x30,  0x80,	 0xb0,	0xd0,  0xe0,  0xf0,  0x280, 0x2f0,
				    0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0 };
	u64 mode = rnd() & 15;
	u32 a, d;

	switch (mode) {
	case 0: /* self, to the other, to a place where nobody is; fixed, lowest priority, NMI */
		lapic_write(0x310, (u32)nasty());
		lapic_write(0x300, (u32)(rnd() & 0xc80ff) | (u32[]) { 0, 0x100, 0x400 }[rnd() % 3]);
		break;
	case 1: /* the second CPU: INIT, start again */
		lapic_write(0x310, 1u << 24);
		lapic_write(0x300, rnd() & 1 ? 0x4500 : 0x4608);
		break;
	case 2: /* off, on, x2APIC, wrong orders */
		__asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(0x1b));
		a = (a & ~0xc00u) | (u32)(rnd() & 3) << 10;
		__asm__ volatile("wrmsr" : : "a"(a), "d"(d), "c"(0x1b));
		break;
	case 3: /* and back */
		__asm__ volatile("wrmsr" : : "a"((u32)(LAPIC | 0x100)), "d"(0), "c"(0x1b));
		__asm__ volatile("wrmsr" : : "a"((u32)(LAPIC | 0x900)), "d"(0), "c"(0x1b));
		lapic_write(0xf0, 0x1ff);
		break;
	case 4: /* timers: one-shot, periodic, deadline; short, in the past, at the end of time */
		lapic_write(0x320, (u32)(rnd() & 0x7ffff) & ~0x10000u);
		lapic_write(0x3e0, (u32)rnd());
		lapic_write(0x380, rnd() & 1 ? (u32)(rnd() & 0xff) : (u32)nasty());
		break;
	case 5:
		arg[0] = 0x6e0;
		arg[1] = rnd() & 1 ? nasty() : __builtin_ia32_rdtsc() + (rnd() & 0xffff) - 0x8000;
		do_wrmsr();
		break;
	case 6: /* I/O APIC */
		*(volatile u32 *)IOAPIC = (u32)(rnd() & 1 ? 0x10 + (rnd() & 0x3f) : rnd());
		*(volatile u32 *)(IOAPIC + 0x10) = (u32)nasty() & ~0x500u;
		break;
	case 7:
		*(volatile u32 *)(IOAPIC + 0x40) = (u32)rnd();
		break;
	default:
		lapic_write(regs[rnd() % (sizeof(regs) / sizeof(regs[0]))] + (rnd() & 7 ? 0 : 4), (u32)nasty());
	}
}

static void do_interrupts(void)
{
	__asm__ volatile("sti; nop; nop; nop; pause; nop; cli" : : : "memory");
}

static void op_apic(void)
{
	try_it(do_apic);
	if (!(rnd() & 3))
		try_it(do_interrupts);
	__asm__ volatile("cli");
}

static void do_hypercall(void)
{
	u64 nr = arg[0];

	if (arg[3])
		__asm__ volatile("vmcall" : "+a"(nr) : "b"(arg[1]), "c"(arg[2]), "d"(rnd()), "S"(nasty()) : "memory");
	else
		__asm__ volatile("vmmcall" : "+a"(nr) : "b"(arg[1]), "c"(arg[2]), "d"(rnd()), "S"(nasty()) : "memory");
}

static void op_paravirtual(void)
{
	static const u32 msrs[] = { 0x11,	0x12,	    0x4b564d00, 0x4b564d01, 0x4b564d02,
				    0x4b564d03, 0x4b564d04, 0x4b564d05, 0x4b564d06, 0x4b564d07 };

	if (rnd() & 1) {
		arg[0] = msrs[rnd() % 10];
		arg[1] = bad_address() | (rnd() & 3);
		try_it(do_wrmsr);
	} else {
		arg[0] = rnd() & 7 ? rnd() % 14 : nasty();
		arg[1] = rnd() & 1 ? bad_address() : nasty();
		arg[2] = nasty();
		arg[3] = rnd() & 1;
		try_it(do_hypercall);
	}
}

static void do_control(void)
{
	u64 value, was;

	switch (rnd() % 9) {
	case 0:
		__asm__ volatile("mov %%cr4, %0" : "=r"(was));
		value = was ^ 1UL << (rnd() & 31);
		value |= 0x620;
		value &= ~(1UL << 20 | 1UL << 21 |
			   1UL << 17); /* pages are the user's: SMEP, SMAP would be the end; PCID */
		__asm__ volatile("mov %0, %%cr4\n mov %1, %%cr4" : : "r"(value), "r"(was) : "memory");
		break;
	case 1:
		__asm__ volatile("mov %%cr0, %0" : "=r"(was));
		value = (was ^ 1UL << (rnd() & 31)) | 0x80000021;
		__asm__ volatile("mov %0, %%cr0\n mov %1, %%cr0" : : "r"(value), "r"(was) : "memory");
		break;
	case 2:
		__asm__ volatile("mov %0, %%dr7\n mov %1, %%dr0\n mov %1, %%dr6"
				 :
				 : "r"(nasty() & ~0xffUL), "r"(nasty()));
		break;
	case 3:
		__asm__ volatile("xsetbv" : : "a"((u32)nasty()), "d"((u32)nasty()), "c"((u32)(rnd() & 3)));
		break;
	case 4:
		__asm__ volatile("wbinvd\n invd");
		break;
	case 5:
		__asm__ volatile("rdpmc" : : "c"((u32)nasty()) : "eax", "edx");
		break;
	case 6:
		__asm__ volatile("monitor" : : "a"(bad_address()), "c"(0), "d"(0));
		break;
	case 7:
		__asm__ volatile("mov %0, %%cr8\n mov %1, %%cr8" : : "r"(rnd() & 31), "r"(0UL));
		break;
	case 8:
		__asm__ volatile("invlpg (%0)" : : "r"(bad_address()) : "memory");
		break;
	}
}

static void op_control(void)
{
	try_it(do_control);
	__asm__ volatile("mov %0, %%cr8" : : "r"(0UL));
}

/* ---- page tables ---- */

static u64 window_value(u64 r)
{
	switch (r % 12) {
	case 0:
		return 0;
	case 1:
		return LAPIC | 7;
	case 2:
		return IOAPIC | 7;
	case 3:
		return 0xd0000000 | 7;
	case 4:
		return 0xf0000 | 7;
	case 5:
		return r >> 12 << 12 | 7; /* reserved bits */
	case 6:
		return (r >> 12 << 12 & 0xffffffffff000) | 7;
	case 7:
		return (u64)ram | 5; /* read-only */
	case 8:
		return ((u64)ram + 4096) | 1UL << 63 | 7;
	default:
		return ((u64)ram + (r >> 8 & 3) * 4096) | 7;
	}
}

/* Interrupts off, no attempts: what traps here begins anew. */
void second_main(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = { 4095, (u64)idt };
	u64 x = 88172645463325252UL + second_runs;

	__asm__ volatile("lidt %0" : : "m"(pointer));
	for (;;) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		window[x >> 32 & 511] = window_value(x);
		second_runs++;
		__builtin_ia32_pause();
	}
}

static void second_start(void)
{
	u8 *to = (u8 *)0x8000, *from = trampoline;

	while (from < trampoline_end)
		*to++ = *from++;
	lapic_write(0xf0, 0x1ff);
	lapic_write(0x310, 1u << 24);
	lapic_write(0x300, 0x4500);
	for (volatile u64 i = 0; i < 100000; i++)
		;
	lapic_write(0x310, 1u << 24);
	lapic_write(0x300, 0x4608);
}

static void op_window(void)
{
	window[rnd() & 511] = window_value(rnd());
	if (rnd() & 1)
		__asm__ volatile("invlpg (%0)" : : "r"(WINDOW + (rnd() & 511) * 4096) : "memory");
	else
		__asm__ volatile("mov %%cr3, %%rax\n mov %%rax, %%cr3" : : : "rax", "memory");
}

void hostile_main(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = { 4095, (u64)idt };
	u64 ops, i, what, start_seed;

	start_seed = option("seed", 1);
	ops = option("ops", 2000);
	what = option("what", 255);
	verbose = option("verbose", 0);
	seed = start_seed * 0x9e3779b97f4a7c15UL + 1;
	for (i = 0; i < 256; i++) {
		u64 stub = (u64)stubs + 16 * i;

		idt[2 * i] = (stub & 0xffff) | 0x08UL << 16 | 0x8eUL << 40 | (stub >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = stub >> 32;
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
	for (i = 0; i < 512; i++)
		window[i] = window_value(rnd());
	pd[WINDOW >> 21] = (u64)window | 7;
	print_line("seed", start_seed);
	if (what & 128)
		attempt(second_start);
	for (; done_ops < ops; done_ops++) {
		u64 kind = rnd() & 7;

		if (!(what & 1UL << kind) && kind < 7)
			continue;
		switch (kind) {
		case 0:
			op_msr();
			break;
		case 1:
			op_cpuid();
			break;
		case 2:
			op_port();
			break;
		case 3:
		case 7:
			op_instruction(!(start_seed & 3) && !(rnd() & 63));
			break;
		case 4:
			op_apic();
			break;
		case 5:
			op_paravirtual();
			break;
		case 6:
			op_control();
			op_window();
			break;
		}
		if (!(done_ops % 500))
			print_line("at", done_ops);
	}
	print_line("traps", traps);
	print_line("interrupts", interrupts);
	print_line("second CPU's rounds", second_runs);
	print_line("done", done_ops);
	shutdown();
}
