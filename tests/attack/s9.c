// SPDX-License-Identifier: GPL-2.0-or-later
/* S9: life cycle of VMs, vCPUs, CPUs and descriptors, in every order. */
#include "attack.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The witness's own are left. */
static void only_witness(const char *what)
{
	uint64_t end = time_ms() + 3000;

	while ((counter_read("vms") != 1 || counter_read("vcpus") != 1) && time_ms() < end)
		usleep(5000);
	need(counter_read("vms") == 1 && counter_read("vcpus") == 1, "%s: %ld VMs, %ld vCPUs remain", what,
	     counter_read("vms"), counter_read("vcpus"));
}

/* Three processes hold the same descriptors and close them in random order, one of them in RUN. */
static void holder(int socket, uint64_t seed)
{
	int fds[3], left = 3;

	need(!fds_receive(socket, fds, 3), "no descriptors");
	while (left) {
		int at = (int)(random_next(&seed) % (unsigned int)left);

		lseek(fds[at], 0, SEEK_SET);
		ioctl(fds[at], UMBRA_VCPU_KICK, 0);
		close(fds[at]);
		fds[at] = fds[--left];
		usleep((useconds_t)(random_next(&seed) % 2000));
	}
	_exit(0);
}

ATTACK(s9_descriptors)
{
	uint64_t seed = 29;

	for (uint64_t round = 0; round < scaled(40); round++) {
		pid_t pid[2];
		int pair[2][2];
		struct guest g;

		for (int i = 0; i < 2; i++) {
			uint64_t child_seed = random_next(&seed);

			need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), "socketpair");
			pid[i] = child_new();
			if (!pid[i])
				holder(pair[i][1], child_seed);
			close(pair[i][1]);
		}
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		for (int i = 0; i < 2; i++)
			need(!fds_send(pair[i][0], (int[]) { g.vm.dev, g.vm.fd, g.vcpu.fd }, 3), "send");
		for (uint64_t n = random_next(&seed) % 50; n; n--) {
			vcpu_expect_io(&g.vcpu, 0x80, "owner");
			vcpu_skip(&g.vcpu);
		}
		if (round & 1)
			vcpu_destroy(&g.vcpu);
		vm_destroy(&g.vm);
		if (!(round & 1)) {
			int error = vcpu_run(&g.vcpu);

			need(!error, "the vCPU after its VM's descriptor: %s", strerror(-error));
			vcpu_destroy(&g.vcpu);
		}
		for (int i = 0; i < 2; i++) {
			check(!child_wait(pid[i], 5000), "a holder failed");
			close(pair[i][0]);
		}
		only_witness("descriptors in three processes");
	}
}

/* In a socket that nobody reads, even one that holds itself: the kernel's collector finds them. */
ATTACK(s9_in_flight)
{
	for (uint64_t round = 0; round < scaled(30); round++) {
		int pair[2], other[2];
		struct guest g;

		need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		vcpu_expect_io(&g.vcpu, 0x80, "run");
		need(!fds_send(pair[0], (int[]) { g.vm.fd, g.vcpu.fd, pair[0], pair[1] }, round & 1 ? 4 : 2), "send");
		vcpu_destroy(&g.vcpu);
		vm_destroy(&g.vm);
		check(counter_read("vms") == 2, "%ld VMs while they are in flight", counter_read("vms"));
		close(pair[0]);
		close(pair[1]);
		need(!socketpair(AF_UNIX, SOCK_STREAM, 0, other), "socketpair"); /* a close starts the collector */
		close(other[0]);
		close(other[1]);
		only_witness("in flight");
	}
}

static void *run_thread(void *arg)
{
	struct guest *g = arg;

	for (;;)
		if (vcpu_run(&g->vcpu))
			return NULL;
}

/* A process with vCPUs in RUN on each of its threads ends, in each way there is. */
static void ends(int how)
{
	struct guest g[3];
	pthread_t thread[3];
	pid_t pid = child_new();

	if (pid) {
		int status = child_wait(pid, 10000);

		need(status >= 0, "way %d: the process does not end", how);
		return;
	}
	for (int i = 0; i < 3; i++) {
		guest_new(&g[i], MODE_LONG64, SNIPPET(spin));
		need(!pthread_create(&thread[i], NULL, run_thread, &g[i]), "thread");
	}
	usleep(3000);
	switch (how) {
	case 0:
		execl("/proc/self/exe", "attack-tests", "--nothing", NULL);
		break;
	case 1:
		break;
	case 2:
		kill(getpid(), SIGKILL);
		break;
	case 3:
		munmap(g[0].vm.mem, GUEST_MEM);
		munmap(g[1].vcpu.run, info()->run_size);
		close(g[2].vcpu.fd);
		break;
	case 4: /* the run area goes away under RUN */
		for (int i = 0; i < 3; i++)
			munmap(g[i].vcpu.run, info()->run_size);
		usleep(5000);
		raise(SIGTERM);
		break;
	}
	_exit(0);
}

ATTACK(s9_ends)
{
	for (uint64_t round = 0; round < scaled(25); round++) {
		ends((int)(round % 5));
		only_witness("a process that ended");
	}
}

static volatile int stop;

static void *create_thread(void *arg)
{
	uint64_t *made = arg;

	while (!stop) {
		struct guest g;

		sched_setaffinity(0, sizeof(cpu_set_t), &(cpu_set_t) { { *made & 1 ? 3 : 2 } }); /* where it is there */
		guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
		for (int i = 0; i < 20; i++) {
			vcpu_expect_io(&g.vcpu, 0x80, "hotplug");
			vcpu_skip(&g.vcpu);
		}
		vcpu_destroy(&g.vcpu);
		vm_destroy(&g.vm);
		++*made;
	}
	return NULL;
}

static void *spin_thread(void *arg)
{
	struct guest *g = arg;

	while (!stop)
		need(!vcpu_run(&g->vcpu), "RUN");
	return NULL;
}

/* A CPU goes and comes while vCPUs run on it, are made and destroyed. */
ATTACK(s9_hotplug)
{
	uint64_t made = 0, cycles = 0;
	pthread_t creator, spinner;
	struct guest g;

	if (cpu_count_online() < 2 || access(HOTPLUG_PATH, W_OK))
		skip_test("no CPU that can be taken offline");
	guest_new(&g, MODE_LONG64, SNIPPET(spin));
	need(!pthread_create(&spinner, NULL, spin_thread, &g), "thread");
	need(!pthread_create(&creator, NULL, create_thread, &made), "thread");
	for (; cycles < scaled(5); cycles++) {
		need(!hotplug_set(0), "CPU 1 offline");
		usleep(10000);
		need(!hotplug_set(1), "CPU 1 online");
		usleep(10000);
	}
	stop = 1;
	for (int i = 0; i < 5000 && pthread_tryjoin_np(spinner, NULL); i++) {
		vcpu_kick(&g.vcpu);
		usleep(1000);
	}
	pthread_join(creator, NULL);
	note("%llu cycles, %llu VMs made", (unsigned long long)cycles, (unsigned long long)made);
	check(made > 3, "only %llu VMs", (unsigned long long)made);
}

/* Nothing remains of what could not be made. */
ATTACK(s9_no_descriptor)
{
	struct umbra_create_vm vm = { 0 };
	struct umbra_create_vcpu vcpu = { 0 };
	struct rlimit limit;
	struct guest g;
	int top;

	guest_new(&g, MODE_LONG64, SNIPPET(out_loop));
	top = dup(0);
	close(top);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = (rlim_t)top;
	need(!setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	for (uint64_t i = 0; i < scaled(300); i++) {
		check(ioctl(g.vm.dev, UMBRA_CREATE_VM, &vm) < 0 && errno == EMFILE, "CREATE_VM: %s", strerror(errno));
		check(ioctl(g.vm.fd, UMBRA_VM_CREATE_VCPU, &vcpu) < 0 && errno == EMFILE, "CREATE_VCPU: %s",
		      strerror(errno));
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	check(counter_read("vms") == 2 && counter_read("vcpus") == 2, "%ld VMs, %ld vCPUs", counter_read("vms"),
	      counter_read("vcpus"));
	vcpu_expect_io(&g.vcpu, 0x80, "afterwards");
}

struct entrant {
	pthread_t thread;
	struct vcpu vcpu;
	uint64_t runs, busy;
};

static void *entrant_thread(void *arg)
{
	struct entrant *e = arg;

	while (!stop) {
		if (lseek(e->vcpu.fd, 0, SEEK_SET) == 0)
			e->runs++;
		else if (errno == EBUSY)
			e->busy++;
		else
			fail("RUN: %s", strerror(errno));
	}
	return NULL;
}

/* Four threads enter one vCPU: one of them is in. The guest counts its rounds, each ends by the deadline or a kick. */
ATTACK(s9_two_threads)
{
	struct entrant e[4] = { 0 };
	uint64_t runs = 0, busy = 0;
	struct guest g;

	guest_new(&g, MODE_LONG64, SNIPPET(spin));
	for (int i = 0; i < 4; i++) {
		e[i].vcpu = g.vcpu;
		need(!pthread_create(&e[i].thread, NULL, entrant_thread, &e[i]), "thread");
	}
	for (uint64_t end = time_ms() + scaled(1500); time_ms() < end; usleep(500))
		vcpu_kick(&g.vcpu);
	stop = 1;
	for (int i = 0; i < 4; i++) {
		while (pthread_tryjoin_np(e[i].thread, NULL)) {
			vcpu_kick(&g.vcpu);
			usleep(200);
		}
		runs += e[i].runs;
		busy += e[i].busy;
	}
	note("%llu runs, %llu times EBUSY", (unsigned long long)runs, (unsigned long long)busy);
	check(runs && busy, "not both: %llu runs, %llu times EBUSY", (unsigned long long)runs,
	      (unsigned long long)busy);
	vcpu_load(&g.vcpu, MODE_LONG64, SNIPPET(out_loop));
	vcpu_expect_io(&g.vcpu, 0x80, "afterwards");
}

int s9_main(void)
{
	static const struct test tests[] = {
		{ "descriptors", s9_descriptors, 90 },
		{ "in_flight", s9_in_flight, 60 },
		{ "ends", s9_ends, 120 },
		{ "hotplug", s9_hotplug, 120 },
		{ "no_descriptor", s9_no_descriptor, 60 },
		{ "two_threads", s9_two_threads, 60 },
	};

	return run_tests("attack.s9", tests, ARRAY_SIZE(tests));
}
