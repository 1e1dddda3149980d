// SPDX-License-Identifier: GPL-2.0-or-later
#include "fake_shim.h"

#include <stdlib.h>
#include <string.h>

static struct fake_shim *fake_of(struct shim *shim)
{
	return (struct fake_shim *)shim;
}

static int fake_info(struct shim *shim, struct umbra_info *info)
{
	bool svm = fake_of(shim)->svm;

	*info = (struct umbra_info) {
		.abi_version = UMBRA_ABI_VERSION,
		.hw = svm ? UMBRA_HW_SVM : UMBRA_HW_VMX,
		.features = svm ? 0 : UMBRA_FEAT_TPR_SHADOW,
		.guest_xcr0 = 7,
		.guest_cr0 = 0xe005003f,
		.guest_cr4 = 0x7ff | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21,
		.guest_efer = 0xd01,
		.tsc_khz = 1000000,
		.gpa_bits = 40,
		.run_size = 8192,
		.vapic_offset = 4096,
	};
	return 0;
}

static int fake_create_vm(struct shim *shim)
{
	fake_of(shim)->vms++;
	return 100;
}

static int fake_set_region(struct shim *shim, const struct umbra_region *region)
{
	struct fake_shim *fake = fake_of(shim);
	int ret = fake->region_ret;

	fake->region_ret = 0;
	if (!ret)
		fake->region[region->slot] = *region;
	return ret;
}

static int fake_get_dirty(struct shim *shim, const struct umbra_dirty *dirty)
{
	struct fake_shim *fake = fake_of(shim);
	uint64_t *bitmap = (uint64_t *)dirty->bitmap;

	fake->dirty_arg = *dirty;
	memset(bitmap, 0, (dirty->pages + 63) / 64 * 8);
	bitmap[0] = fake->dirty_word;
	fake->dirty_word = 0;
	fake->dirty_calls++;
	return 0;
}

static int fake_create_vcpu(struct shim *shim, struct umbra_run **run, void **vapic)
{
	struct fake_shim *fake = fake_of(shim);

	if (fake->create_ret < 0)
		return fake->create_ret;
	fake->run = calloc(1, sizeof(*fake->run));
	fake->vapic = aligned_alloc(4096, 4096);
	memset(fake->vapic, 0, 4096);
	*run = fake->run;
	*vapic = fake->vapic;
	return 200;
}

static void fake_destroy_vcpu(struct shim *shim, int vcpu_fd, struct umbra_run *run)
{
	struct fake_shim *fake = fake_of(shim);

	(void)vcpu_fd;
	free(run);
	free(fake->vapic);
	fake->destroyed++;
}

/* exit_read is given no shim: the threads under test have one each. */
static __thread struct vmexit last_exit;
static __thread bool last_raw;

static int fake_run(struct shim *shim, int vcpu_fd)
{
	struct fake_shim *fake = fake_of(shim);
	struct umbra_run *run = fake->run;
	struct fake_step end = { .exit = { .reason = VMEXIT_SHUTDOWN } }, *step = &end;
	uint64_t emul;

	(void)vcpu_fd;
	if (run->flags & UMBRA_RUN_NO_ENTRY) {
		fake->fetches++;
		run->dirty = 0;
		run->exit = (struct umbra_exit) { .reason = UMBRA_EXIT_NONE, .valid = run->want };
		return 0;
	}
	if (fake->at < fake->steps)
		step = &fake->step[fake->at];
	fake->entry[fake->at < FAKE_STEPS - 1 ? fake->at++ : fake->at] = *run;
	run->flags = 0;
	run->dirty = 0;
	if (!step->keep_inject)
		run->inject.flags = 0;
	if (step->act)
		step->act(run);
	last_exit = step->exit;
	last_raw = step->raw;
	run->exit = step->raw ? step->hw : (struct umbra_exit) { .reason = UMBRA_EXIT_NONE };
	run->exit.event = step->event;
	emul = step->exit.reason == VMEXIT_MEM ||
			       (step->exit.reason == VMEXIT_IO && (step->exit.io.flags & VMEXIT_IO_STRING))
		       ? run->want_emul
		       : 0;
	run->exit.valid = run->want | (step->raw ? run->want_emul : emul);
	return step->ret;
}

static void fake_exit_read(const struct umbra_run *run, struct vmexit *exit)
{
	if (last_raw)
		exit_read_svm(run, exit);
	else
		*exit = last_exit;
}

static int fake_kick(struct shim *shim, int vcpu_fd)
{
	(void)vcpu_fd;
	fake_of(shim)->kicks++;
	return 0;
}

static const struct shim_ops fake_ops = {
	.info = fake_info,
	.create_vm = fake_create_vm,
	.set_region = fake_set_region,
	.get_dirty = fake_get_dirty,
	.create_vcpu = fake_create_vcpu,
	.destroy_vcpu = fake_destroy_vcpu,
	.run = fake_run,
	.exit_read = fake_exit_read,
	.kick = fake_kick,
};

void fake_init(struct fake_shim *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->shim.ops = &fake_ops;
}

struct fake_step *fake_push(struct fake_shim *fake, uint32_t reason, uint8_t insn_len)
{
	struct fake_step *step = &fake->step[fake->steps++];

	if (fake->steps >= FAKE_STEPS)
		abort();
	*step = (struct fake_step) { .exit = { .reason = reason, .insn_len = insn_len } };
	return step;
}

struct fake_step *fake_push_svm(struct fake_shim *fake, uint32_t code, uint64_t info1, uint64_t info2, uint8_t insn_len)
{
	struct fake_step *step = fake_push(fake, VMEXIT_NONE, 0);

	step->raw = true;
	step->hw = (struct umbra_exit) { .reason = UMBRA_EXIT_HARDWARE,
					 .hw_reason = code,
					 .hw_info = info1,
					 .hw_info2 = info2,
					 .insn_len = insn_len };
	return step;
}
