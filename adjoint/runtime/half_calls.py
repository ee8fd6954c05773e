"""What LLVM calls to convert float16 on processors without instructions for it, as LLVM IR.

x86 before F16C, for one; everywhere else the functions would come from a compiler's run-time library, which a Python
process need not have. Both work on bits: a number that float16 cannot hold in full is rounded to the nearest, ties to
even; what is below its normal numbers is rounded by adding 0.5, whose last place is the smallest float16.
"""

SOURCE = """
define internal half @__truncsfhf2(float %x) {
  %bits = bitcast float %x to i32
  %sign = and i32 %bits, -2147483648
  %size = xor i32 %bits, %sign
  %nan = icmp ugt i32 %size, 2139095040
  %special = select i1 %nan, i32 32256, i32 31744
  %f = bitcast i32 %size to float
  %moved = fadd float %f, 0.5
  %moved.bits = bitcast float %moved to i32
  %small = sub i32 %moved.bits, 1056964608
  %above = lshr i32 %size, 13
  %odd = and i32 %above, 1
  %based = add i32 %size, -939520001
  %rounded = add i32 %based, %odd
  %normal = lshr i32 %rounded, 13
  %is.small = icmp ult i32 %size, 947912704
  %finite = select i1 %is.small, i32 %small, i32 %normal
  %is.special = icmp uge i32 %size, 1199570944
  %all = select i1 %is.special, i32 %special, i32 %finite
  %top = lshr i32 %sign, 16
  %whole = or i32 %all, %top
  %pattern = trunc i32 %whole to i16
  %half = bitcast i16 %pattern to half
  ret half %half
}

define internal float @__extendhfsf2(half %x) {
  %pattern = bitcast half %x to i16
  %bits = zext i16 %pattern to i32
  %size = and i32 %bits, 32767
  %moved = shl i32 %size, 13
  %exponent = and i32 %moved, 260046848
  %normal = add i32 %moved, 939524096
  %special = add i32 %normal, 939524096
  %above = add i32 %normal, 8388608
  %f = bitcast i32 %above to float
  %less = fsub float %f, 0x3F10000000000000
  %small = bitcast float %less to i32
  %is.special = icmp eq i32 %exponent, 260046848
  %is.small = icmp eq i32 %exponent, 0
  %large = select i1 %is.special, i32 %special, i32 %normal
  %all = select i1 %is.small, i32 %small, i32 %large
  %negative = and i32 %bits, 32768
  %sign = shl i32 %negative, 16
  %whole = or i32 %all, %sign
  %float = bitcast i32 %whole to float
  ret float %float
}
"""
