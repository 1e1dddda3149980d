/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A fuzzer's bytes, taken from the front; past the end everything is zero. */
struct input {
	const uint8_t *at, *end;
};

static inline struct input input_of(const uint8_t *data, size_t size)
{
	return (struct input) { data, data + size };
}

static inline bool input_more(const struct input *in)
{
	return in->at < in->end;
}

static inline void input_bytes(struct input *in, void *to, size_t len)
{
	size_t left = (size_t)(in->end - in->at), n = len < left ? len : left;

	memset(to, 0, len);
	if (n)
		memcpy(to, in->at, n);
	in->at += n;
}

static inline uint8_t input_u8(struct input *in)
{
	return input_more(in) ? *in->at++ : 0;
}

static inline uint16_t input_u16(struct input *in)
{
	uint16_t value;

	input_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint32_t input_u32(struct input *in)
{
	uint32_t value;

	input_bytes(in, &value, sizeof(value));
	return value;
}

static inline uint64_t input_u64(struct input *in)
{
	uint64_t value;

	input_bytes(in, &value, sizeof(value));
	return value;
}

/* 0..n-1 */
static inline uint32_t input_pick(struct input *in, uint32_t n)
{
	return n > 256 ? input_u16(in) % n : input_u8(in) % n;
}

/* A number near what checks compare with, or any. */
static inline uint64_t input_number(struct input *in)
{
	uint8_t kind = input_u8(in);
	int8_t off;

	switch (kind & 3) {
	case 0:
		return kind >> 2;
	case 1:
		return 1ULL << (kind >> 2);
	case 2:
		off = (int8_t)input_u8(in);
		return (1ULL << (kind >> 2)) + (uint64_t)(int64_t)off;
	default:
		return input_u64(in);
	}
}

/* What a target promises, broken. */
#define fuzz_assert(what)                                                                  \
	do {                                                                               \
		if (!(what)) {                                                             \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #what); \
			abort();                                                           \
		}                                                                          \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
