# Functions with and without sizes, within one another, and with two names.
	.text
	.globl _start, alias, strong_one_with_a_longer_name
	.weak weak_one
	.type sized,@function
sized:
	.fill 4, 1, 0x90
	.size sized, 4
	.fill 12, 1, 0xcc
label:
	.fill 32, 1, 0x90
	.type outer,@function
outer:
	.fill 8, 1, 0x90
	.type inner,@function
inner:
	.fill 4, 1, 0x90
	.size inner, 4
	.fill 20, 1, 0x90
	.size outer, 32
	.fill 16, 1, 0xcc
	.type _alias,@function
	.type alias,@function
	.globl _alias
_alias:
alias:
	.fill 16, 1, 0x90
	.size _alias, 16
	.size alias, 16
	.type weak_one,@function
	.type strong_one_with_a_longer_name,@function
weak_one:
strong_one_with_a_longer_name:
	.fill 16, 1, 0x90
	.size weak_one, 16
	.size strong_one_with_a_longer_name, 16
_start:
	.fill 16, 1, 0x90
last:
	.fill 64, 1, 0x90
	.section .note.GNU-stack,"",@progbits
