// SPDX-License-Identifier: GPL-2.0-or-later
/* attack-tests [--scale PERCENT] attack.sN[.TEST]... | all | --list */
#include "attack.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *name;
	int (*main)(void);
} groups[] = {
	{ "s1", s1_main }, { "s2", s2_main }, { "s3", s3_main }, { "s4", s4_main }, { "s5", s5_main },
	{ "s6", s6_main }, { "s7", s7_main }, { "s8", s8_main }, { "s9", s9_main }, { "s10", s10_main },
};

uint32_t run_bounded(struct vcpu *vcpu, unsigned int ms)
{
	vcpu->run->deadline_tsc = tsc_read() + (uint64_t)info()->tsc_khz * ms;
	vcpu_exit(vcpu);
	vcpu->run->deadline_tsc = 0;
	return vcpu->exit.reason;
}

void run_good(struct vcpu *vcpu, const struct umbra_run *base, const char *after)
{
	memcpy(vcpu->run, base, offsetof(struct umbra_run, exit));
	run_bounded(vcpu, LONG);
	need(vcpu->exit.reason == VMEXIT_IO && vcpu->exit.io.port == 0x80, "after %s: %s", after, vcpu_describe(vcpu));
}

pid_t child_new(void)
{
	pid_t pid, parent = getpid();

	fflush(stdout);
	pid = fork();
	need(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

int child_wait(pid_t pid, unsigned int ms)
{
	uint64_t end = time_ms() + ms;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (time_ms() > end)
			return -1;
		usleep(1000);
	}
	return status;
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	check(child_wait(pid, 10000) >= 0, "a process does not die of SIGKILL");
}

int fds_send(int socket, const int *fds, int count)
{
	union {
		char buffer[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec data = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = CMSG_SPACE((size_t)count * 4) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

int fds_receive(int socket, int *fds, int count)
{
	union {
		char buffer[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	char byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c;

	if (recvmsg(socket, &message, 0) != 1)
		return -errno;
	c = CMSG_FIRSTHDR(&message);
	if (!c || c->cmsg_len != CMSG_LEN((size_t)count * sizeof(int)))
		return -EPROTO;
	memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
	return 0;
}

uint64_t cpu_time_us(pid_t pid)
{
	char path[64], text[512], *at;
	unsigned long user = 0, system = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file || !fgets(text, sizeof(text), file))
		text[0] = 0;
	if (file)
		fclose(file);
	at = strrchr(text, ')');
	if (at)
		sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	return (user + system) * (1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
}

static int group_run(char *name)
{
	int failed = 0, found = 0;
	char *dot;

	if (!strncmp(name, "attack.", 7))
		name += 7;
	dot = strchr(name, '.');
	if (dot)
		*dot = 0;
	test_only = dot ? dot + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (strcmp(name, "all") && strcmp(name, groups[i].name))
			continue;
		failed |= groups[i].main();
		found = 1;
	}
	if (!found)
		printf("not ok attack.%s: no such group\n", name);
	return failed || !found;
}

int main(int argc, char **argv)
{
	int failed = 0, i;

	if (argc > 1 && !strcmp(argv[1], "--nothing")) /* what s9 executes */
		return 0;
	/* glibc's rseq would make RUN return after each preemption. */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
		perror("cannot start again without rseq");
		return 2;
	}
	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--list")) {
			test_list = 1;
			return group_run((char[]) { "all" });
		}
		if (strcmp(argv[i], "--scale") || i + 1 >= argc)
			break;
		test_scale = (unsigned int)strtoul(argv[++i], NULL, 10);
	}
	if (i >= argc || argv[i][0] == '-') {
		fprintf(stderr, "usage: %s [--scale PERCENT] attack.sN[.TEST]... | all | --list\n", argv[0]);
		return 2;
	}
	watch_init();
	for (; i < argc; i++)
		failed |= group_run(argv[i]);
	return failed;
}
