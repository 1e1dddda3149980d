// SPDX-License-Identifier: GPL-2.0-or-later
#include "emul.h"

/* Arithmetic with flags, on plain values. */

static void flags_put(uint64_t *flags, uint64_t which, uint64_t value)
{
	*flags = (*flags & ~which) | (value & which);
}

static uint64_t flags_of_result(uint64_t result, uint32_t bits)
{
	uint64_t flags = 0;

	result &= mask_bits(bits);
	if (!result)
		flags |= FLAG_ZF;
	if (result >> (bits - 1))
		flags |= FLAG_SF;
	if (!(__builtin_popcount(result & 0xff) & 1))
		flags |= FLAG_PF;
	return flags;
}

static uint64_t add_carry(uint64_t a, uint64_t b, uint32_t carry, uint32_t bits, uint64_t *flags)
{
	uint64_t mask = mask_bits(bits), result, out = 0;

	a &= mask;
	b &= mask;
	result = (a + b + carry) & mask;
	if (result < a || (carry && result == a))
		out |= FLAG_CF;
	if ((a ^ b ^ result) & 0x10)
		out |= FLAG_AF;
	if (((a ^ result) & (b ^ result)) >> (bits - 1))
		out |= FLAG_OF;
	flags_put(flags, FLAGS_ARITH, out | flags_of_result(result, bits));
	return result;
}

static uint64_t sub_borrow(uint64_t a, uint64_t b, uint32_t borrow, uint32_t bits, uint64_t *flags)
{
	uint64_t mask = mask_bits(bits), result, out = 0;

	a &= mask;
	b &= mask;
	result = (a - b - borrow) & mask;
	if (a < b || (borrow && a == b))
		out |= FLAG_CF;
	if ((a ^ b ^ result) & 0x10)
		out |= FLAG_AF;
	if (((a ^ b) & (a ^ result)) >> (bits - 1))
		out |= FLAG_OF;
	flags_put(flags, FLAGS_ARITH, out | flags_of_result(result, bits));
	return result;
}

uint64_t alu_binary(enum alu_op op, uint64_t a, uint64_t b, uint32_t bits, uint64_t *flags)
{
	uint64_t result;

	switch (op) {
	case ALU_ADD:
		return add_carry(a, b, 0, bits, flags);
	case ALU_ADC:
		return add_carry(a, b, *flags & FLAG_CF, bits, flags);
	case ALU_SUB:
	case ALU_CMP:
		return sub_borrow(a, b, 0, bits, flags);
	case ALU_SBB:
		return sub_borrow(a, b, *flags & FLAG_CF, bits, flags);
	case ALU_OR:
		result = a | b;
		break;
	case ALU_AND:
		result = a & b;
		break;
	default:
		result = a ^ b;
		break;
	}
	/* CF and OF cleared, AF undefined: cleared, as CPUs do */
	flags_put(flags, FLAGS_ARITH, flags_of_result(result, bits));
	return result & mask_bits(bits);
}

uint64_t alu_inc(uint64_t a, uint32_t bits, uint64_t *flags)
{
	uint64_t carry = *flags & FLAG_CF, result = add_carry(a, 1, 0, bits, flags);

	flags_put(flags, FLAG_CF, carry);
	return result;
}

uint64_t alu_dec(uint64_t a, uint32_t bits, uint64_t *flags)
{
	uint64_t carry = *flags & FLAG_CF, result = sub_borrow(a, 1, 0, bits, flags);

	flags_put(flags, FLAG_CF, carry);
	return result;
}

uint64_t alu_neg(uint64_t a, uint32_t bits, uint64_t *flags)
{
	return sub_borrow(0, a, 0, bits, flags);
}

/* Through the carry the register is bits + 1 wide: one step at a time, at most 63. */
static uint64_t rotate_carry(bool left, uint64_t a, uint32_t count, uint32_t bits, uint64_t *flags)
{
	uint64_t carry = *flags & FLAG_CF, top, overflow;

	for (; count; count--) {
		if (left) {
			top = a >> (bits - 1) & 1;
			a = (a << 1 | carry) & mask_bits(bits);
			carry = top;
		} else {
			top = a & 1;
			a = a >> 1 | carry << (bits - 1);
			carry = top;
		}
	}
	if (left)
		overflow = (a >> (bits - 1) ^ carry) & 1;
	else
		overflow = (a >> (bits - 1) ^ a >> (bits - 2)) & 1;
	flags_put(flags, FLAG_CF | FLAG_OF, carry | (overflow ? FLAG_OF : 0));
	return a;
}

static uint64_t rotate(bool left, uint64_t a, uint32_t count, uint32_t bits, uint64_t *flags)
{
	uint64_t carry, overflow;

	count %= bits;
	if (!left)
		count = (bits - count) % bits;
	if (count)
		a = (a << count | a >> (bits - count)) & mask_bits(bits);
	if (left) {
		carry = a & 1;
		overflow = (a >> (bits - 1) ^ carry) & 1;
	} else {
		carry = a >> (bits - 1) & 1;
		overflow = (carry ^ a >> (bits - 2)) & 1;
	}
	flags_put(flags, FLAG_CF | FLAG_OF, carry | (overflow ? FLAG_OF : 0));
	return a;
}

uint64_t alu_shift(enum alu_shift op, uint64_t a, uint32_t count, uint32_t bits, uint64_t *flags)
{
	uint64_t result, out = 0;
	uint64_t sign;

	a &= mask_bits(bits);
	count &= bits == 64 ? 63 : 31;
	if (!count)
		return a;
	sign = a >> (bits - 1);
	switch (op) {
	case SHIFT_ROL:
	case SHIFT_ROR:
		return rotate(op == SHIFT_ROL, a, count, bits, flags);
	case SHIFT_RCL:
	case SHIFT_RCR:
		return rotate_carry(op == SHIFT_RCL, a, count, bits, flags);
	case SHIFT_SHL:
		result = (a << count) & mask_bits(bits);
		if (count <= bits && (a >> (bits - count) & 1))
			out |= FLAG_CF;
		if ((result >> (bits - 1)) ^ (out & FLAG_CF))
			out |= FLAG_OF;
		break;
	case SHIFT_SHR:
		result = a >> count;
		if (a >> (count - 1) & 1)
			out |= FLAG_CF;
		if (sign)
			out |= FLAG_OF;
		break;
	default:
		result = (uint64_t)(sign_extend(a, bits) >> count) & mask_bits(bits);
		if (sign_extend(a, bits) >> (count - 1) & 1)
			out |= FLAG_CF;
		break;
	}
	flags_put(flags, FLAGS_ARITH, out | flags_of_result(result, bits));
	return result;
}

uint64_t alu_shift_double(bool left, uint64_t a, uint64_t b, uint32_t count, uint32_t bits, uint64_t *flags)
{
	uint64_t mask = mask_bits(bits), result, out = 0;

	a &= mask;
	b &= mask;
	count &= bits == 64 ? 63 : 31;
	if (!count)
		return a;
	if (count > bits) { /* 16 bits by 17..31: undefined; as if a:b:a were shifted */
		count -= bits;
		result = a;
		a = b;
		b = result;
	}
	if (left) {
		result = count == bits ? b : (a << count | b >> (bits - count)) & mask;
		out = a >> (bits - count) & 1 ? FLAG_CF : 0;
	} else {
		result = count == bits ? b : (a >> count | b << (bits - count)) & mask;
		out = a >> (count - 1) & 1 ? FLAG_CF : 0;
	}
	if ((a ^ result) >> (bits - 1))
		out |= FLAG_OF;
	flags_put(flags, FLAGS_ARITH, out | flags_of_result(result, bits));
	return result;
}

void alu_mul(bool is_signed, uint64_t a, uint64_t b, uint32_t bits, uint64_t *lo, uint64_t *hi, uint64_t *flags)
{
	unsigned __int128 product;
	bool overflow;

	if (is_signed) {
		product = (unsigned __int128)((__int128)sign_extend(a, bits) * sign_extend(b, bits));
		*lo = (uint64_t)product & mask_bits(bits);
		overflow = (__int128)product != sign_extend(*lo, bits);
	} else {
		product = (unsigned __int128)(a & mask_bits(bits)) * (b & mask_bits(bits));
		*lo = (uint64_t)product & mask_bits(bits);
		overflow = product >> bits;
	}
	*hi = (uint64_t)(product >> bits) & mask_bits(bits);
	/* SF, ZF, AF and PF are undefined: left alone */
	flags_put(flags, FLAG_CF | FLAG_OF, overflow ? FLAG_CF | FLAG_OF : 0);
}

/* 128 by 64 bits; the caller has made sure that the quotient fits (a library call could use vector registers). */
static uint64_t divide(uint64_t hi, uint64_t lo, uint64_t divisor, uint64_t *remainder)
{
	uint64_t quotient;

	__asm__("divq %[divisor]"
		: "=a"(quotient), "=d"(*remainder)
		: "a"(lo), "d"(hi), [divisor] "rm"(divisor)
		: "cc");
	return quotient;
}

bool alu_div(bool is_signed, uint64_t *lo, uint64_t *hi, uint64_t divisor, uint32_t bits)
{
	uint64_t mask = mask_bits(bits), quotient, remainder, limit;
	bool negative = false, negative_divisor = false;
	unsigned __int128 dividend;

	dividend = (unsigned __int128)(*hi & mask) << bits | (*lo & mask);
	divisor &= mask;
	if (is_signed) {
		negative = *hi >> (bits - 1) & 1;
		negative_divisor = divisor >> (bits - 1) & 1;
		if (negative)
			dividend = -dividend;
		if (negative && bits < 64)
			dividend &= ((unsigned __int128)1 << 2 * bits) - 1;
		if (negative_divisor)
			divisor = -divisor & mask;
	}
	if (!divisor || (uint64_t)(dividend >> 64) >= divisor)
		return false;
	quotient = divide((uint64_t)(dividend >> 64), (uint64_t)dividend, divisor, &remainder);
	limit = mask;
	if (is_signed)
		limit = (mask >> 1) + (negative != negative_divisor);
	if (quotient > limit)
		return false;
	*lo = (negative != negative_divisor ? -quotient : quotient) & mask;
	*hi = (negative ? -remainder : remainder) & mask;
	return true;
}

bool alu_condition(uint32_t code, uint64_t flags)
{
	bool less = !(flags & FLAG_SF) != !(flags & FLAG_OF);
	bool result;

	switch (code >> 1 & 7) {
	case 0:
		result = flags & FLAG_OF;
		break;
	case 1:
		result = flags & FLAG_CF;
		break;
	case 2:
		result = flags & FLAG_ZF;
		break;
	case 3:
		result = flags & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		result = flags & FLAG_SF;
		break;
	case 5:
		result = flags & FLAG_PF;
		break;
	case 6:
		result = less;
		break;
	default:
		result = less || (flags & FLAG_ZF);
		break;
	}
	return result != (code & 1);
}
