package refs

import (
	"encoding/hex"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
)

// TestAccess has instructions as gcc and clang make them, with what they do to memory
// (Intel SDM, volume 2).
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		code, asm string
		want      Access
		narrow    bool // 32-bit code
	}{
		{"8b 07", "mov (%rdi),%eax", Reads, false},
		{"89 07", "mov %eax,(%rdi)", Writes, false},
		{"48 89 44 24 08", "mov %rax,8(%rsp)", Writes, false},
		{"c7 07 01 00 00 00", "movl $1,(%rdi)", Writes, false},
		{"c6 07 01", "movb $1,(%rdi)", Writes, false},
		{"88 07", "mov %al,(%rdi)", Writes, false},
		{"0f b6 07", "movzbl (%rdi),%eax", Reads, false},
		{"48 0f be 07", "movsbq (%rdi),%rax", Reads, false},
		{"03 07", "add (%rdi),%eax", Reads, false},
		{"01 07", "add %eax,(%rdi)", Writes, false},
		{"39 07", "cmp %eax,(%rdi)", Reads, false},
		{"3b 07", "cmp (%rdi),%eax", Reads, false},
		{"83 3f 00", "cmpl $0,(%rdi)", Reads, false},
		{"83 07 01", "addl $1,(%rdi)", Writes, false},
		{"ff 07", "incl (%rdi)", Writes, false},
		{"ff 17", "call *(%rdi)", PushesRead, false},
		{"ff 27", "jmp *(%rdi)", Reads, false},
		{"ff 37", "push (%rdi)", PushesRead, false},
		{"8f 07", "pop (%rdi)", PopsWrite, false},
		{"50", "push %rax", Pushes, false},
		{"41 54", "push %r12", Pushes, false},
		{"58", "pop %rax", Reads, false},
		{"c3", "ret", Reads, false},
		{"e8 00 00 00 00", "call", Pushes, false},
		{"f0 0f b1 17", "lock cmpxchg %edx,(%rdi)", Writes, false},
		{"87 07", "xchg %eax,(%rdi)", Writes, false},
		{"f0 0f c1 07", "lock xadd %eax,(%rdi)", Writes, false},
		{"85 07", "test %eax,(%rdi)", Reads, false},
		{"f6 07 01", "testb $1,(%rdi)", Reads, false},
		{"f7 1f", "negl (%rdi)", Writes, false},
		{"d1 27", "shll (%rdi)", Writes, false},
		{"0f 94 07", "sete (%rdi)", Writes, false},
		{"0f ab 07", "bts %eax,(%rdi)", Writes, false},
		{"0f a3 07", "bt %eax,(%rdi)", Reads, false},
		{"0f ba 27 01", "btl $1,(%rdi)", Reads, false},
		{"0f ba 2f 01", "btsl $1,(%rdi)", Writes, false},
		{"f3 a4", "rep movsb", Copies, false},
		{"f3 48 ab", "rep stos", Writes, false},
		{"f2 ae", "repne scasb", Reads, false},
		{"0f 11 07", "movups %xmm0,(%rdi)", Writes, false},
		{"0f 10 07", "movups (%rdi),%xmm0", Reads, false},
		{"f3 0f 7f 07", "movdqu %xmm0,(%rdi)", Writes, false},
		{"f3 0f 7e 07", "movq (%rdi),%xmm0", Reads, false},
		{"66 0f 7e 07", "movd %xmm0,(%rdi)", Writes, false},
		{"66 0f d6 07", "movq %xmm0,(%rdi)", Writes, false},
		{"66 0f e7 07", "movntdq %xmm0,(%rdi)", Writes, false},
		{"0f c3 07", "movnti %eax,(%rdi)", Writes, false},
		{"f2 0f 58 07", "addsd (%rdi),%xmm0", Reads, false},
		{"dd 07", "fldl (%rdi)", Reads, false},
		{"dd 1f", "fstpl (%rdi)", Writes, false},
		{"db 3f", "fstpt (%rdi)", Writes, false},
		{"d9 3f", "fnstcw (%rdi)", Writes, false},
		{"c5 fe 7f 07", "vmovdqu %ymm0,(%rdi)", Writes, false},
		{"c5 fe 6f 07", "vmovdqu (%rdi),%ymm0", Reads, false},
		{"c5 fd e7 07", "vmovntdq %ymm0,(%rdi)", Writes, false},
		{"c4 c1 7e 7f 04 24", "vmovdqu %ymm0,(%r12)", Writes, false},
		{"c5 fb 58 07", "vaddsd (%rdi),%xmm0,%xmm0", Reads, false},
		{"c4 e2 7d 8e 07", "vpmaskmovd %ymm0,%ymm0,(%rdi)", Writes, false},
		{"c4 e3 7d 39 07 01", "vextracti128 $1,%ymm0,(%rdi)", Writes, false},
		{"62 f1 fe 48 7f 07", "vmovdqu64 %zmm0,(%rdi)", Writes, false},
		{"62 f1 fe 48 6f 07", "vmovdqu64 (%rdi),%zmm0", Reads, false},
		{"0f 38 f1 07", "movbe %eax,(%rdi)", Writes, false},
		{"f2 0f 38 f1 07", "crc32l (%rdi),%eax", Reads, false},
		{"0f ae 07", "fxsave (%rdi)", Writes, false},
		{"0f ae 0f", "fxrstor (%rdi)", Reads, false},
		{"0f c7 0f", "cmpxchg8b (%rdi)", Writes, false},
		{"64 48 8b 04 25 00 00 00 00", "mov %fs:0,%rax", Reads, false},
		{"8b c7", "mov %edi,%eax: no memory", Unknown, false},
		{"0f 0b", "ud2", Unknown, false},
		{"40", "inc %eax", Unknown, true},
		{"60", "pusha", Pushes, true},
		{"c5 07", "lds (%edi),%eax", Unknown, true},
		{"a3 00 00 00 00", "mov %eax,0", Writes, true},
		{"", "nothing", Unknown, false},
		{"66 66 66", "prefixes alone", Unknown, false},
	} {
		code, err := hex.DecodeString(strings.ReplaceAll(c.code, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := AccessOf(code, !c.narrow); got != c.want {
			t.Errorf("%s (%s): %d, want %d", c.code, c.asm, got, c.want)
		}
	}
}

func TestKind(t *testing.T) {
	const sp, di = 0x7000, 0x5000
	for _, c := range []struct {
		x    Access
		a    int
		want format.RefKind
	}{
		{Reads, 1, format.RefRead}, {Writes, 1, format.RefWrite}, {Pushes, sp - 8, format.RefWrite},
		{PushesRead, sp - 8, format.RefWrite}, {PushesRead, 0x1000, format.RefRead},
		{PopsWrite, sp, format.RefRead}, {PopsWrite, 0x1000, format.RefWrite},
		{Copies, di, format.RefWrite}, {Copies, 0x4000, format.RefRead}, {Unknown, 1, format.RefUnknown},
	} {
		if got := c.x.Kind(addr.Addr(c.a), sp, di); got != c.want {
			t.Errorf("access %d at %#x: %v, want %v", c.x, c.a, got, c.want)
		}
	}
}

func FuzzAccess(f *testing.F) {
	f.Add([]byte{0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x07}, true)
	f.Fuzz(func(t *testing.T, code []byte, wide bool) {
		if x := AccessOf(code, wide); x > Copies {
			t.Errorf("% x: %d", code, x)
		}
	})
}
