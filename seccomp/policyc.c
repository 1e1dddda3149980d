/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compiles seccomp policies (README.md) to a C file with BPF arrays: policyc -o OUT.c NAME=FILE...
 * Build time only. Its input is part of the source tree; a mistake in it is reported as file:line and ends the build.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <linux/seccomp.h>

#include "umbra_abi.h"

/* Newer than the libc's headers that this may be built with. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#define MAX_RULES 256
#define MAX_CONDS 6
#define MAX_DEPTH 4
#define MAX_SYSCALL 1024
#define MIN_REASON 8 /* characters */

struct rule {
	int nr;
	unsigned int conds;
	struct scmp_arg_cmp cond[MAX_CONDS];
	int error; /* errno to return; 0: allow */
	const char *file;
	int line;
};

struct policy_source {
	struct rule rule[MAX_RULES];
	unsigned int rules;
	char *within; /* file; NULL: none */
	const char *within_file;
	int within_line;
};

struct place {
	const char *file;
	int line;
};

#define THREAD_FLAGS                                                                                       \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS | \
	 CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

#define CONSTANT(name)      \
	{                   \
#name, name \
	}
static const struct {
	const char *name;
	uint64_t value;
} constants[] = {
	CONSTANT(UMBRA_INFO),
	CONSTANT(UMBRA_CREATE_VM),
	CONSTANT(UMBRA_VM_SET_REGION),
	CONSTANT(UMBRA_VM_GET_DIRTY),
	CONSTANT(UMBRA_VM_CREATE_VCPU),
	CONSTANT(UMBRA_VCPU_RUN),
	CONSTANT(UMBRA_VCPU_KICK),
	CONSTANT(PROT_READ),
	CONSTANT(PROT_WRITE),
	CONSTANT(PROT_EXEC),
	CONSTANT(THREAD_FLAGS), /* what pthread_create() passes */
	CONSTANT(SECCOMP_SET_MODE_FILTER),
	CONSTANT(F_SETFD),
	CONSTANT(F_GETFL),
	CONSTANT(F_GET_SEALS),
	CONSTANT(MADV_DONTNEED),
	CONSTANT(MADV_HUGEPAGE),
	CONSTANT(MADV_POPULATE_WRITE),
	CONSTANT(MADV_COLLAPSE),
	CONSTANT(MADV_GUARD_INSTALL),
	CONSTANT(MADV_GUARD_REMOVE),
	CONSTANT(MAP_HUGETLB),
	CONSTANT(SIGKILL),
};

static const struct {
	const char *name;
	int value;
} errnos[] = {
	CONSTANT(EPERM), CONSTANT(ENOENT), CONSTANT(EACCES), CONSTANT(EINVAL), CONSTANT(ENOMEM), CONSTANT(ENOSYS),
};

static _Noreturn void fail(const struct place *place, const char *format, ...)
{
	va_list args;

	if (place)
		fprintf(stderr, "%s:%d: ", place->file, place->line);
	else
		fprintf(stderr, "policyc: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void *check_alloc(void *memory)
{
	if (!memory)
		fail(NULL, "out of memory");
	return memory;
}

/* ---- lines to rules ---- */

static uint64_t parse_term(const struct place *place, const char *text)
{
	char *end;
	uint64_t value;

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (!strcmp(constants[i].name, text))
			return constants[i].value;
	errno = 0;
	value = strtoull(text, &end, 0);
	if (!isdigit((unsigned char)text[0]) || *end || errno)
		fail(place, "'%s' is neither a number nor a known constant", text);
	return value;
}

static uint64_t parse_value(const struct place *place, const char *word)
{
	char *copy = check_alloc(strdup(word)), *rest = copy, *term;
	uint64_t value = 0;

	while ((term = strsep(&rest, "|")))
		value |= parse_term(place, term);
	free(copy);
	return value;
}

static enum scmp_compare parse_operator(const struct place *place, const char *word)
{
	static const struct {
		const char *text;
		enum scmp_compare op;
	} operators[] = {
		{ "==", SCMP_CMP_EQ }, { "!=", SCMP_CMP_NE }, { "<", SCMP_CMP_LT },	   { "<=", SCMP_CMP_LE },
		{ ">", SCMP_CMP_GT },  { ">=", SCMP_CMP_GE }, { "&", SCMP_CMP_MASKED_EQ },
	};

	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (!strcmp(operators[i].text, word))
			return operators[i].op;
	fail(place, "unknown operator '%s'", word);
}

static char *next_word(const struct place *place, char **rest, const char *what)
{
	char *word;

	do
		word = strsep(rest, " \t");
	while (word && !*word);
	if (!word && what)
		fail(place, "%s expected", what);
	return word;
}

static struct scmp_arg_cmp parse_cond(const struct place *place, const char *arg, char **rest)
{
	struct scmp_arg_cmp cond = { 0 };

	if (strncmp(arg, "arg", 3) || arg[3] < '0' || arg[3] > '5' || arg[4])
		fail(place, "arg0 to arg5 expected, not '%s'", arg);
	cond.arg = arg[3] - '0';
	cond.op = parse_operator(place, next_word(place, rest, "an operator"));
	cond.datum_a = parse_value(place, next_word(place, rest, "a value"));
	if (cond.op == SCMP_CMP_MASKED_EQ) {
		if (strcmp(next_word(place, rest, "'== value' after the mask"), "=="))
			fail(place, "'== value' expected after the mask");
		cond.datum_b = parse_value(place, next_word(place, rest, "a value"));
		if (cond.datum_b & ~cond.datum_a)
			fail(place, "never true: the value has bits outside the mask");
	}
	return cond;
}

static int parse_errno(const struct place *place, const char *word)
{
	for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (!strcmp(errnos[i].name, word))
			return errnos[i].value;
	fail(place, "unknown errno '%s'", word);
}

static struct rule parse_rule(const struct place *place, const char *name, char *rest)
{
	struct rule rule = { .file = place->file, .line = place->line };
	bool need_cond = false;
	char *word;

	rule.nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name);
	if (rule.nr < 0)
		fail(place, "'%s' is no system call of x86-64", name);
	while ((word = next_word(place, &rest, need_cond ? "a condition after 'and'" : NULL))) {
		if (!strcmp(word, "return") && !need_cond) {
			rule.error = parse_errno(place, next_word(place, &rest, "an errno"));
			if (next_word(place, &rest, NULL))
				fail(place, "nothing may follow the errno");
			break;
		}
		if (rule.conds && !need_cond) {
			if (strcmp(word, "and"))
				fail(place, "'and' or the end of the rule expected, not '%s'", word);
			need_cond = true;
			continue;
		}
		if (rule.conds == MAX_CONDS)
			fail(place, "too many conditions");
		rule.cond[rule.conds++] = parse_cond(place, word, &rest);
		need_cond = false;
	}
	return rule;
}

static bool same_conds(const struct rule *a, const struct rule *b)
{
	if (a->conds != b->conds)
		return false;
	for (unsigned int i = 0; i < a->conds; i++)
		if (a->cond[i].arg != b->cond[i].arg || a->cond[i].op != b->cond[i].op ||
		    a->cond[i].datum_a != b->cond[i].datum_a || a->cond[i].datum_b != b->cond[i].datum_b)
			return false;
	return true;
}

static void add_rule(struct policy_source *policy, const struct rule *rule)
{
	const struct place place = { rule->file, rule->line };

	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *other = &policy->rule[i];

		if (other->nr != rule->nr)
			continue;
		if (!other->conds || !rule->conds || same_conds(other, rule))
			fail(&place, "this and %s:%d: one makes the other pointless", other->file, other->line);
	}
	if (policy->rules == MAX_RULES)
		fail(&place, "too many rules");
	policy->rule[policy->rules++] = *rule;
}

/* A file named in another one: relative to that one's folder. */
static char *beside(const char *file, const char *name)
{
	const char *slash = strrchr(file, '/');
	size_t dir = slash ? (size_t)(slash - file) + 1 : 0;
	char *path = check_alloc(malloc(dir + strlen(name) + 1));

	memcpy(path, file, dir);
	strcpy(path + dir, name);
	return path;
}

static void parse_file(struct policy_source *policy, const char *file, int depth, const struct place *from);

static void parse_line(struct policy_source *policy, const struct place *place, char *line, int depth)
{
	char *reason = strchr(line, '#'), *rest = line, *word;
	struct rule rule;

	if (reason)
		*reason++ = 0;
	word = next_word(place, &rest, NULL);
	if (!word)
		return;
	if (!strcmp(word, "include") || !strcmp(word, "within")) {
		char *name = beside(place->file, next_word(place, &rest, "a file"));

		if (next_word(place, &rest, NULL))
			fail(place, "nothing may follow the file's name");
		if (word[0] == 'i') {
			parse_file(policy, name, depth + 1, place); /* its name stays: rules point to it */
			return;
		}
		if (policy->within)
			fail(place, "a second 'within'");
		policy->within = name;
		policy->within_file = place->file;
		policy->within_line = place->line;
		return;
	}
	if (reason)
		reason += strspn(reason, " \t");
	if (!reason || strlen(reason) < MIN_REASON)
		fail(place, "'%s' needs a reason behind a #", word);
	rule = parse_rule(place, word, rest);
	add_rule(policy, &rule);
}

static void parse_file(struct policy_source *policy, const char *file, int depth, const struct place *from)
{
	struct place place = { file, 0 };
	char line[1024];
	FILE *f;

	if (depth > MAX_DEPTH)
		fail(from, "includes are nested too deeply");
	f = fopen(file, "r");
	if (!f)
		fail(from, "%s: %s", file, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		place.line++;
		if (!strchr(line, '\n') && !feof(f))
			fail(&place, "the line is too long");
		line[strcspn(line, "\n")] = 0;
		parse_line(policy, &place, line, depth);
	}
	if (ferror(f))
		fail(from, "%s: cannot be read", file);
	fclose(f);
	if (!depth && !policy->rules)
		fail(&place, "no rule in this policy");
}

/* ---- checks and output ---- */

static bool allowed_by(const struct policy_source *outer, const struct rule *rule)
{
	for (unsigned int i = 0; i < outer->rules; i++) {
		const struct rule *other = &outer->rule[i];

		if (other->nr == rule->nr && !other->error && (!other->conds || same_conds(other, rule)))
			return true;
	}
	return false;
}

static void check_within(const struct policy_source *policy)
{
	const struct place within = { policy->within_file, policy->within_line };
	struct policy_source *outer;

	if (!policy->within)
		return;
	outer = check_alloc(calloc(1, sizeof(*outer)));
	parse_file(outer, policy->within, 0, &within);
	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];
		const struct place place = { rule->file, rule->line };

		if (!rule->error && !allowed_by(outer, rule))
			fail(&place, "not allowed by %s, whose filter this role inherits", policy->within);
	}
	free(outer);
}

/* ---- the filter, tried ---- */

/* Classic BPF as libseccomp writes it. */
static uint32_t filter_run(const struct sock_filter *insn, unsigned int count, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (unsigned int pc = 0; pc < count; pc++) {
		const struct sock_filter *i = &insn[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (i->k <= sizeof(*data) - sizeof(a))
				memcpy(&a, (const char *)data + i->k, sizeof(a));
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
			fail(NULL, "libseccomp has written an instruction that is not known here: %#x", i->code);
		}
	}
	fail(NULL, "libseccomp has written a filter without an end");
}

/* Arguments that this rule is for; those that it does not look at stay. */
static void example(const struct rule *rule, struct seccomp_data *data)
{
	for (unsigned int c = 0; c < rule->conds; c++) {
		const struct scmp_arg_cmp *cond = &rule->cond[c];
		uint64_t value = cond->op == SCMP_CMP_MASKED_EQ ? cond->datum_b : cond->datum_a;

		if (cond->op == SCMP_CMP_NE || cond->op == SCMP_CMP_GT)
			value++;
		else if (cond->op == SCMP_CMP_LT)
			value--;
		data->args[cond->arg] = value;
	}
}

static bool condition_holds(const struct scmp_arg_cmp *cond, const struct seccomp_data *data)
{
	uint64_t arg = data->args[cond->arg];

	switch (cond->op) {
	case SCMP_CMP_EQ:
		return arg == cond->datum_a;
	case SCMP_CMP_NE:
		return arg != cond->datum_a;
	case SCMP_CMP_LT:
		return arg < cond->datum_a;
	case SCMP_CMP_LE:
		return arg <= cond->datum_a;
	case SCMP_CMP_GT:
		return arg > cond->datum_a;
	case SCMP_CMP_GE:
		return arg >= cond->datum_a;
	case SCMP_CMP_MASKED_EQ:
		return (arg & cond->datum_a) == cond->datum_b;
	default:
		fail(NULL, "an operator that is not known here: %d", cond->op);
	}
}

static bool has_rule(const struct policy_source *policy, const struct seccomp_data *data)
{
	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];
		bool holds = rule->nr == data->nr;

		for (unsigned int c = 0; holds && c < rule->conds; c++)
			holds = condition_holds(&rule->cond[c], data);
		if (holds)
			return true;
	}
	return false;
}

/* Does the filter let through what no rule is for? Tried around the values of each rule. */
static void try_beside(const struct policy_source *policy, const struct rule *rule, const struct sock_filter *insn,
		       unsigned int count)
{
	const struct place place = { rule->file, rule->line };

	for (unsigned int way = 0; way < 12; way++) {
		struct seccomp_data data = { .nr = rule->nr, .arch = AUDIT_ARCH_X86_64 };

		memset(data.args, way & 1 ? 0xff : 0, sizeof(data.args));
		for (unsigned int c = 0; c < rule->conds; c++) {
			const struct scmp_arg_cmp *cond = &rule->cond[c];

			data.args[cond->arg] = (cond->op == SCMP_CMP_MASKED_EQ ? cond->datum_b : cond->datum_a) +
					       (uint64_t)(way / 4) - 1;
		}
		for (unsigned int arg = 0; way & 2 && arg < 6; arg++)
			data.args[arg] ^= 1ull << 32;
		if (!has_rule(policy, &data) && filter_run(insn, count, &data) != SECCOMP_RET_TRAP)
			fail(&place, "libseccomp allows more than the rules for this call say: change their order");
	}
}

/*
 * Does each rule do what it says? Of several rules with conditions for one call libseccomp (2.5.4) can lose one, which depends on
 * their order: the filter then traps what the policy allows; or it allows what none of them does. Each is tried beside what every
 * other one is for.
 */
static void try_filter(const struct policy_source *policy, const struct sock_filter *insn, unsigned int count)
{
	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];
		const struct place place = { rule->file, rule->line };

		for (unsigned int j = 0; j < 2 * policy->rules; j++) {
			const struct rule *other = &policy->rule[j / 2];
			struct seccomp_data data = { .nr = rule->nr, .arch = AUDIT_ARCH_X86_64 };

			if (other->nr != rule->nr)
				continue;
			if (j & 1) /* what no rule looks at: all ones, or zero */
				memset(data.args, 0xff, sizeof(data.args));
			example(other, &data);
			example(rule, &data);
			if (filter_run(insn, count, &data) == SECCOMP_RET_TRAP)
				fail(&place,
				     "never true, or lost by libseccomp: change the order of the rules for this call");
		}
		try_beside(policy, rule, insn, count);
	}
}

static void write_filter(FILE *out, const char *name, const struct policy_source *policy)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	struct sock_filter insn[BPF_MAXINSNS];
	unsigned int count = 0;
	FILE *bpf = tmpfile();
	int error;

	if (!ctx || !bpf)
		fail(NULL, "no memory or no temporary file");
	if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS))
		fail(NULL, "libseccomp refuses to kill other architectures");
	for (unsigned int i = 0; i < policy->rules; i++) {
		const struct rule *rule = &policy->rule[i];
		const struct place place = { rule->file, rule->line };
		uint32_t action = rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW;

		error = seccomp_rule_add_exact_array(ctx, action, rule->nr, rule->conds, rule->cond);
		if (error)
			fail(&place, "libseccomp refuses this rule: %s", strerror(-error));
	}
	error = seccomp_export_bpf(ctx, fileno(bpf));
	if (error)
		fail(NULL, "%s: cannot be compiled: %s", name, strerror(-error));
	rewind(bpf);
	count = fread(insn, sizeof(insn[0]), BPF_MAXINSNS, bpf);
	if (!count || fgetc(bpf) != EOF)
		fail(NULL, "%s: no filter, or one of more than %u instructions", name, BPF_MAXINSNS);
	try_filter(policy, insn, count);

	fprintf(out, "static const struct sock_filter filter_%s[] = {\n", name);
	for (unsigned int i = 0; i < count; i++)
		fprintf(out, "\t{ 0x%02x, %u, %u, 0x%08x },\n", insn[i].code, insn[i].jt, insn[i].jf, insn[i].k);
	fprintf(out, "};\nconst struct policy policy_%s = { \"%s\", filter_%s, %u };\n\n", name, name, name, count);
	fclose(bpf);
	seccomp_release(ctx);
}

/* One string and offsets into it: no pointers, so nothing for the dynamic linker to relocate. */
static void write_names(FILE *out)
{
	unsigned int offset = 1, offsets[MAX_SYSCALL], count = 0;

	fprintf(out, "static const char names[] =\n\t\"\\0\"\n");
	for (int nr = 0; nr < MAX_SYSCALL; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);

		offsets[nr] = 0;
		if (!name)
			continue;
		fprintf(out, "\t\"%s\\0\"\n", name);
		offsets[nr] = offset;
		offset += strlen(name) + 1;
		count = nr + 1;
		free(name);
	}
	fprintf(out, "\t;\nstatic const unsigned short name_offsets[] = {");
	for (unsigned int nr = 0; nr < count; nr++)
		fprintf(out, "%s%u,", nr % 16 ? " " : "\n\t", offsets[nr]);
	fprintf(out,
		"\n};\n\nconst char *policy_syscall_name(unsigned int nr)\n{\n"
		"\treturn nr < %u && name_offsets[nr] ? names + name_offsets[nr] : \"unknown\";\n}\n",
		count);
}

int main(int argc, char **argv)
{
	struct policy_source *policy = check_alloc(malloc(sizeof(*policy)));
	const char *out_name = NULL;
	FILE *out;
	int opt;

	while ((opt = getopt(argc, argv, "o:")) == 'o')
		out_name = optarg;
	if (opt != -1 || !out_name || optind == argc)
		fail(NULL, "usage: policyc -o OUT.c NAME=FILE...");
	out = fopen(out_name, "w");
	if (!out)
		fail(NULL, "%s: %s", out_name, strerror(errno));
	fprintf(out, "/* Made by policyc from the files in seccomp/. */\n#include \"policy.h\"\n\n");
	for (int i = optind; i < argc; i++) {
		char *file = strchr(argv[i], '=');

		if (!file || file == argv[i])
			fail(NULL, "NAME=FILE expected, not '%s'", argv[i]);
		*file++ = 0;
		memset(policy, 0, sizeof(*policy));
		parse_file(policy, file, 0, NULL);
		check_within(policy);
		write_filter(out, argv[i], policy);
	}
	write_names(out);
	free(policy);
	if (fclose(out))
		fail(NULL, "%s: %s", out_name, strerror(errno));
	return 0;
}
