// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The policy compiler on any text: it says what is wrong, or its filter does what the rules say. The filter is run here, on
 * calls near the rules' numbers, beside a plain reading of the rules.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "input.h"

#define BLOCKS 4096
#define INSNS 4096

/* What policyc.c takes from libc is taken back after each input, however that ended. */
static void *block[BLOCKS];
static unsigned int blocks;
static FILE *opened[16];
static unsigned int files;
static scmp_filter_ctx filter_ctx;
static jmp_buf failed;
static const uint8_t *policy_text;
static size_t policy_size;

static void *keep(void *p)
{
	if (blocks == BLOCKS)
		longjmp(failed, 1);
	return block[blocks++] = p;
}

/* Two files: the policy, and what it includes. The first zero byte parts them. */
static FILE *fuzz_fopen(const char *name, const char *mode)
{
	const uint8_t *zero = memchr(policy_text, 0, policy_size);
	size_t first = zero ? (size_t)(zero - policy_text) : policy_size;
	FILE *file = NULL;

	if (mode[0] == 'r' && !strcmp(name, "a") && first)
		file = fmemopen((void *)policy_text, first, "r");
	else if (mode[0] == 'r' && !strcmp(name, "b") && zero && policy_size - first > 1)
		file = fmemopen((void *)(zero + 1), policy_size - first - 1, "r");
	if (file && files < 16)
		opened[files++] = file;
	else
		errno = ENOENT;
	return file;
}

static int fuzz_fclose(FILE *file)
{
	for (unsigned int i = 0; i < files; i++)
		if (opened[i] == file)
			opened[i] = NULL;
	return fclose(file);
}

static FILE *fuzz_tmpfile(void)
{
	FILE *file = fdopen(memfd_create("bpf", 0), "w+");

	opened[files++ & 15] = file;
	return file;
}

#define malloc(size) keep(malloc(size))
#define calloc(n, size) keep(calloc(n, size))
#define strdup(s) keep(strdup(s))
#define free(p) ((void)(p))
#define exit(status) longjmp(failed, 1)
#define fopen(name, mode) fuzz_fopen(name, mode)
#define fclose(file) fuzz_fclose(file)
#define tmpfile() fuzz_tmpfile()
#define seccomp_init(action) (filter_ctx = seccomp_init(action))
#define seccomp_release(ctx) (seccomp_release(ctx), filter_ctx = NULL)
#define main policyc_main
#include "policyc.c"
#undef main
#undef malloc
#undef calloc
#undef strdup
#undef free
#undef exit
#undef fopen
#undef fclose
#undef tmpfile
#undef seccomp_init
#undef seccomp_release

static struct sock_filter bpf[INSNS];
static unsigned int insns;

/* The classic BPF that libseccomp makes. */
static uint32_t run_filter(const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (unsigned int pc = 0;; pc++) {
		const struct sock_filter *i = &bpf[pc];

		fuzz_assert(pc < insns);
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			fuzz_assert(i->k % 4 == 0 && i->k < sizeof(*data));
			memcpy(&a, (const uint8_t *)data + i->k, 4);
			break;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fuzz_assert(!"an instruction that is not known here");
		}
	}
}

/* Not the compiler's own, which is under test. */
static bool cond_holds(const struct scmp_arg_cmp *c, const struct seccomp_data *data)
{
	uint64_t arg = data->args[c->arg];

	switch (c->op) {
	case SCMP_CMP_EQ:
		return arg == c->datum_a;
	case SCMP_CMP_NE:
		return arg != c->datum_a;
	case SCMP_CMP_LT:
		return arg < c->datum_a;
	case SCMP_CMP_LE:
		return arg <= c->datum_a;
	case SCMP_CMP_GT:
		return arg > c->datum_a;
	case SCMP_CMP_GE:
		return arg >= c->datum_a;
	case SCMP_CMP_MASKED_EQ:
		return (arg & c->datum_a) == c->datum_b;
	default:
		fuzz_assert(!"no operator");
	}
}

/*
 * Allowed only if a rule allows it. A rule that libseccomp loses traps: policyc looks for that itself, with examples, and may miss
 * one (regress/policyc/lost-rule); what is left fails closed.
 */
static void ask(const struct policy_source *policy, const struct seccomp_data *data)
{
	uint32_t got = run_filter(data);
	bool any = false, fits = got == SECCOMP_RET_TRAP;

	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];
		bool holds = rule->nr == data->nr;

		for (unsigned int c = 0; c < rule->conds; c++)
			holds = holds && cond_holds(&rule->cond[c], data);
		any |= holds;
		fits |= holds && got == (rule->error ? SECCOMP_RET_ERRNO | (uint32_t)rule->error : SECCOMP_RET_ALLOW);
	}
	if (!any)
		fuzz_assert(got == SECCOMP_RET_TRAP);
	else
		fuzz_assert(fits);
}

static void ask_all(const struct policy_source *policy)
{
	struct seccomp_data data = { .arch = AUDIT_ARCH_X86_64 };

	for (data.nr = 0; data.nr < 64; data.nr++)
		ask(policy, &data);
	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];

		data.nr = rule->nr;
		for (int64_t off = -1; off <= 1; off++) {
			for (unsigned int c = 0; c < rule->conds; c++)
				data.args[rule->cond[c].arg] =
					(rule->cond[c].op == SCMP_CMP_MASKED_EQ ? rule->cond[c].datum_b
										: rule->cond[c].datum_a) +
					(uint64_t)off;
			ask(policy, &data);
			for (unsigned int c = 0; c < 6; c++)
				data.args[c] ^= 0x100000000;
			ask(policy, &data);
			memset(data.args, off < 0 ? 0xff : 0, sizeof(data.args));
		}
	}
	/* Other ways into the kernel. */
	data.arch = AUDIT_ARCH_I386;
	fuzz_assert(run_filter(&data) == SECCOMP_RET_KILL_PROCESS);
	data.arch = AUDIT_ARCH_X86_64;
	data.nr |= 0x40000000;
	fuzz_assert(run_filter(&data) == SECCOMP_RET_KILL_PROCESS);
}

static void read_back(const char *out)
{
	const char *line = strstr(out, "= {\n");
	unsigned int code, jt, jf, k;

	insns = 0;
	for (line = line ? line + 4 : ""; sscanf(line, " { 0x%x, %u, %u, 0x%x }", &code, &jt, &jf, &k) == 4;
	     line = strchr(line, '\n') + 1) {
		fuzz_assert(insns < INSNS);
		bpf[insns++] = (struct sock_filter) { (uint16_t)code, (uint8_t)jt, (uint8_t)jf, k };
	}
	fuzz_assert(insns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct policy_source policy;
	char *out_text = NULL;
	size_t out_size = 0;
	FILE *out = open_memstream(&out_text, &out_size);

	policy_text = data;
	policy_size = size;
	memset(&policy, 0, sizeof(policy));
	if (!setjmp(failed)) {
		parse_file(&policy, "a", 0, NULL);
		check_within(&policy);
		write_filter(out, "x", &policy);
		fflush(out);
		read_back(out_text);
		ask_all(&policy);
	}
	fclose(out);
	free(out_text);
	if (filter_ctx)
		seccomp_release(filter_ctx);
	filter_ctx = NULL;
	while (files) {
		files--;
		if (opened[files])
			fclose(opened[files]);
		opened[files] = NULL;
	}
	while (blocks)
		free(block[--blocks]);
	return 0;
}
