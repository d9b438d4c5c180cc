# The program stands at its exec: its variables are there, its code has not run.
# Write 32 words into the global array data of testdata/progs/table.c.
repeat 32 write data+4*i i
# A read-only mapping can be written too.
write greeting "I was here\x00"
mem data 32
