package call

import "sync"

// layoutText is structs as they are shown: a line a struct, its name (NAME/N can
// be cut to N bytes), then its members in order, as parseField reads them. "..." at
// the end is for what is left out, "...?" for what a longer struct has more.
const layoutText = `
# privileges, scheduling
caphdr version:^capver/32 pid:d32
schedget size:u32 sched_policy:^sched/32 sched_flags:|schedflags/64 sched_nice:d32 sched_priority:u32 sched_runtime:u64 sched_deadline:u64 sched_period:u64 sched_util_min:u32 sched_util_max:u32
schedset size:u32 sched_policy:^sched/32?!sched_flags&0x18 =sched_policy:^sched/32?sched_policy&0x80000000 sched_flags:|schedflags/64 sched_nice:d32?!sched_flags&0x10 sched_priority:u32?!sched_flags&0x10 sched_runtime:u64?!sched_flags&0x10 sched_deadline:u64?!sched_flags&0x10 sched_period:u64?!sched_flags&0x10 sched_util_min:u32 sched_util_max:u32
fowner type:^fowner/32 pid:d32

# queues
sembuf sem_num:u16 sem_op:d16 sem_flg:|semop/16
mqattr mq_flags:|mqattr/l mq_maxmsg:dl mq_msgsize:dl mq_curmsgs:dl .reserved:xl*4
mqnew mq_flags:xl mq_maxmsg:dl mq_msgsize:dl mq_curmsgs:dl .reserved:xl*4
ioevent data:x64 obj:x64 res:d64 res2:d64
waitv val:x64 uaddr:P flags:|waiter/32 __reserved:x32?

# quotas
dqblk dqb_bhardlimit:u64 dqb_bsoftlimit:u64 dqb_curspace:u64 dqb_ihardlimit:u64 dqb_isoftlimit:u64 dqb_curinodes:u64 -16 -8 ...
nextdqblk dqb_bhardlimit:u64 dqb_bsoftlimit:u64 dqb_curspace:u64 dqb_ihardlimit:u64 dqb_isoftlimit:u64 dqb_curinodes:u64 -16 -4 dqb_id:u32 ...
dqinfo dqi_bgrace:u64 dqi_igrace:u64 dqi_flags:|dqinfo/32 dqi_valid:|iifvalid/32
xdqblk d_version:d8 d_flags:|xfsdq/8 d_fieldmask:x16 d_id:u32 d_blk_hardlimit:u64 d_blk_softlimit:u64 d_ino_hardlimit:u64 d_ino_softlimit:u64 d_bcount:u64 d_icount:u64 -48 ...
xqstat qs_version:d8 -79 ...

# mounts
mountattr/32 attr_set:|mountattr/64 attr_clr:|mountattr/64 propagation:^mountprop/64 userns_fd:fd64?attr_set&0x100000 =userns_fd:fd64?attr_clr&0x100000 =userns_fd:u64
landlock/8 handled_access_fs:|landlockfs/64 ...?
pathbeneath/12 allowed_access:|landlockfs/64 parent_fd:fd

# sockets
lingerset l_onoff:d32 l_linger:d32
linger/4 l_onoff:d32 l_linger:d32
ucred/4 pid:d32 uid:uid gid:uid
mreq imr_multiaddr:in4 imr_interface:in4
mreq6 ipv6mr_multiaddr:in6 ipv6mr_interface:ifindex
tpacketreq tp_block_size:u32 tp_block_nr:u32 tp_frame_size:u32 tp_frame_nr:u32
tpacketstats/4 tp_packets:u32 tp_drops:u32 tp_freeze_q_cnt:u32
packetmreq mr_ifindex:ifindex mr_type:^packetmr/16 mr_alen:u16 mr_address:mac -2
fprog len:u16 filter:p
pktinfo ipi_ifindex:ifindex ipi_spec_dst:in4 ipi_addr:in4
sa_netlink/12 -2 nl_pad:x16? nl_pid:d32 nl_groups:X32
sa_vsock/16 -2 svm_reserved1:x16? svm_cid@8:^vsockcid/32 svm_port@4:^vsockport/32 svm_flags@12:|vsockflag/8 -3
sa_xdp/16 -2 sxdp_flags:|xdp/16 sxdp_ifindex:ifindex sxdp_queue_id:u32 sxdp_shared_umem_fd:fd?sxdp_flags&1 =sxdp_shared_umem_fd:x32?

# interfaces
ifr_name ifr_name:c16 -24
ifr_addr ifr_name:c16 ifr_addr:sockaddr -8
ifr_dstaddr ifr_name:c16 ifr_dstaddr:sockaddr -8
ifr_broadaddr ifr_name:c16 ifr_broadaddr:sockaddr -8
ifr_netmask ifr_name:c16 ifr_netmask:sockaddr -8
hwaddr sa_family:^arphrd/16 sa_data:mac -8
ifr_hwaddr ifr_name:c16 ifr_hwaddr:{hwaddr} -8
ifr_flags ifr_name:c16 ifr_flags:|iff/16 -22
ifr_index ifr_name:c16 ifr_ifindex:d32 -20
ifr_metric ifr_name:c16 ifr_metric:d32 -20
ifr_mtu ifr_name:c16 ifr_mtu:d32 -20
ifr_slave ifr_name:c16 ifr_slave:c16 -8
ifr_newname ifr_name:c16 ifr_newname:c16 -8
ifr_qlen ifr_name:c16 ifr_qlen:d32 -20
ifmap mem_start:xl mem_end:xl base_addr:x16 irq:x8 dma:x8 port:x8
ifr_map ifr_name:c16 ifr_map:{ifmap}
ifr_conf ifr_name:c16 ifr_addr:sockaddr
ifr_byindex ifr_ifindex@16:d32 ifr_name@0:c16
ifr_index_only -16 ifr_ifindex:d32

# io_uring
iovec iov_base:p iov_len:ul
iocb aio_data:x64 aio_key:u32? aio_rw_flags:|rwf/32? aio_lio_opcode:%aio/16 .aio_flags@56:u32 aio_reqprio@18:ioprio?aio_flags&2 =aio_reqprio:d16? aio_fildes:fd
iocbflags aio_flags@56:|aioflags/32? aio_resfd:fd?aio_flags&1 =aio_resfd:x32?
uringin -8 flags:|uringsetup/32 sq_thread_cpu:x32 sq_thread_idle:u32 -4 wq_fd:fd?flags&0x20 resv:x32*3? -80
sqoff head:u32 tail:u32 ring_mask:u32 ring_entries:u32 flags:u32 dropped:u32 array:u32 resv1:x32? resv2:x64?
cqoff head:u32 tail:u32 ring_mask:u32 ring_entries:u32 overflow:u32 cqes:u32 flags:u32 resv1:x32? resv2:x64?
uringout sq_entries:u32 cq_entries:u32 features@20:|uringfeat/32 sq_off@40:{sqoff} cq_off:{cqoff}
uringprobe last_op:%uringop/8 ops_len:u8 resv:x16? resv2:x32*3?
uringfilesupdate offset:u32 resv:x32? fds:P>ringfd#@3
uringrestrict opcode:^uringrestrict/16 register_op:^uringreg/8?opcode=0 =sqe_op:^uringop/8?opcode=1 =sqe_flags:|uringsqe/8?opcode=2 =sqe_flags:|uringsqe/8?opcode=3 resv:x8? resv2:x32*3?
uringprobeop op:%uringop/8 resv:x8? flags:|uringopflag/16 resv2:x32?
uringringfd offset:uid resv:x32? data:fd64
uringunring offset:u32 resv:x32? data:x64?
uringbufs ring_addr:P ring_entries:u32 bgid:u16 pad:x16? resv:x64*3?
uringfiles2/32 nr:u32 flags:|uringrsrc/32 resv2:x64? data:P>fd#nr tags:P>x64#nr
uringbuffers2/32 nr:u32 flags:|uringrsrc/32 resv2:x64? data:P>{iovec}#nr tags:P>x64#nr
uringupdate2/32 offset:u32 resv:x32? data:P>ringfd#nr tags:P>x64#nr nr:u32 resv2:x32?
uringbufupdate2/32 offset:u32 resv:x32? data:P>{iovec}#nr tags:P>x64#nr nr:u32 resv2:x32?

# bpf
bpf_create/16 map_type:^bpfmap/32 key_size:u32 value_size:u32 max_entries:u32 map_flags:|bpfmapflags/32 inner_map_fd:fd numa_node:u32?map_flags&4 map_name:c16 map_ifindex:ifindex btf_fd:fd btf_key_type_id:u32 btf_value_type_id:u32 btf_vmlinux_value_type_id:u32 map_extra:x64
bpf_lookup/24 map_fd:fd -4 key:P value:P flags:|bpflookup/64
bpf_update/24 map_fd:fd -4 key:P value:P flags:^bpfupdate/64
bpf_delete/16 map_fd:fd -4 key:P
bpf_next/24 map_fd:fd -4 key:P next_key:P
bpf_mapfd/4 map_fd:fd
bpf_load/24 prog_type:^bpfprog/32 insn_cnt:u32 insns:P license:P>str log_level:u32 log_size:u32 log_buf:P>str kern_version:kver prog_flags:|bpfprogflags/32 prog_name:c16 prog_ifindex:ifindex expected_attach_type:^bpfattach/32 prog_btf_fd:fd func_info_rec_size:u32 func_info:P func_info_cnt:u32 line_info_rec_size:u32 line_info:P line_info_cnt:u32 attach_btf_id:u32 attach_prog_fd:fd -4 fd_array:P
bpf_obj/12 pathname:P>path bpf_fd:fd file_flags:|bpffile/32
bpf_attach/12 target_fd:fd attach_bpf_fd:fd attach_type:^bpfattach/32 attach_flags:|bpfattachflags/32 replace_bpf_fd:fd
bpf_detach/12 target_fd:fd -4 attach_type:^bpfattach/32
bpf_test1/40 prog_fd:fd retval:u32 data_size_in:u32 data_size_out:u32 data_in:P data_out:P repeat:u32 duration:u32 ctx_size_in:u32 ctx_size_out:u32 ctx_in:P ctx_out:P flags:|bpftest/32 cpu:u32 batch_size:u32
bpf_test/40 test:{bpf_test1}
bpf_nextid/8 start_id:u32 next_id:u32 open_flags:|bpffile/32
bpf_progbyid/4 prog_id:u32 next_id:u32 open_flags:|bpffile/32
bpf_mapbyid/4 map_id:u32 next_id:u32 open_flags:|bpffile/32
bpf_btfbyid/4 btf_id:u32
bpf_linkbyid/4 link_id:u32
bpf_info1 bpf_fd:fd info_len:u32 info:P
bpf_info/16 info:{bpf_info1}
bpf_query1/12 target_fd:fd attach_type:^bpfattach/32 query_flags:|bpfquery/32 attach_flags:|bpfattachflags/32 prog_ids:P prog_cnt:u32
bpf_query/12 query:{bpf_query1}
bpf_tracepoint1/12 name:P>str prog_fd:fd
bpf_tracepoint/12 raw_tracepoint:{bpf_tracepoint1}
bpf_btf/20 btf:P btf_log_buf:P btf_size:u32 btf_log_size:u32 btf_log_level:u32
bpf_taskfd1 pid:d32 fd:u32 flags:u32 buf_len:u32 buf:P prog_id:u32 fd_type:^bpffdtype/32 probe_offset:x64 probe_addr:x64
bpf_taskfd/24 task_fd_query:{bpf_taskfd1}
bpf_linkcreate1/16 prog_fd:fd target_fd:fd attach_type:^bpfattach/32 flags:x32
bpf_linkcreate/16 link_create:{bpf_linkcreate1}
bpf_linkupdate1/12 link_fd:fd new_prog_fd:fd flags:|bpfattachflags/32 old_prog_fd:fd?flags&4
bpf_linkupdate/12 link_update:{bpf_linkupdate1}
bpf_linkdetach1 link_fd:fd
bpf_linkdetach link_detach:{bpf_linkdetach1}

# netlink
ifinfo ifi_family:^af/8 -1 ifi_type:^arphrd/16 ifi_index:ifindex ifi_flags:|iff/32 ifi_change:|iff/32

# clone3
clonearg/64 flags:|clone/64 pidfd:P?flags&0x1000 child_tid:P?flags&0x1200000 parent_tid:P?flags&0x100000 exit_signal:sig stack:P stack_size:x64 tls:P?flags&0x80000 set_tid:P>d32#set_tid_size?set_tid_size set_tid_size:u64? cgroup:u64?
`

// variantText says which layout a struct has, where a number among the arguments
// tells: the name of the variants, the argument (>>BITS of it; A,B for two), then
// VALUE=LAYOUT, or VALUE=[TYPE for an array.
const variantText = `
bpf 0 0=bpf_create 1=bpf_lookup 2=bpf_update 3=bpf_delete 4=bpf_next 5=bpf_load 6=bpf_obj 7=bpf_obj 8=bpf_attach 9=bpf_detach 10=bpf_test 11=bpf_nextid 12=bpf_nextid 13=bpf_progbyid 14=bpf_mapbyid 15=bpf_info 16=bpf_query 17=bpf_tracepoint 18=bpf_btf 19=bpf_btfbyid 20=bpf_taskfd 21=bpf_lookup 22=bpf_mapfd 23=bpf_nextid 28=bpf_linkcreate 29=bpf_linkupdate 30=bpf_linkbyid 31=bpf_nextid 34=bpf_linkdetach
landlockrule 1 1=pathbeneath
quotain 0>>8 0x800006=dqinfo 0x800008=dqblk 0x5804=xdqblk
quotaout 0>>8 0x800005=dqinfo 0x800007=dqblk 0x800009=nextdqblk 0x5803=xdqblk 0x5809=xdqblk 0x5805=xqstat 0x5808=xqstat
quotafdin 1>>8 0x800006=dqinfo 0x800008=dqblk 0x5804=xdqblk
quotafdout 1>>8 0x800005=dqinfo 0x800007=dqblk 0x800009=nextdqblk 0x5803=xdqblk 0x5809=xdqblk 0x5805=xqstat 0x5808=xqstat
uring 1 0=[{iovec} 2=[fd 4=[fd 7=[fd 11=[{uringrestrict} 20=[{uringringfd} 21=[{uringunring} 6=uringfilesupdate 13=uringfiles2 14=uringupdate2 15=uringbuffers2 16=uringbufupdate2 22=uringbufs 23=uringbufs
setsockopt 1,2 1,13=lingerset 0,35=mreq 0,36=mreq 41,20=mreq6 41,21=mreq6 41,27=mreq6 41,28=mreq6 263,5=tpacketreq 263,13=tpacketreq 263,1=packetmreq 263,2=packetmreq 1,26=fprog 1,51=fprog
getsockopt 1,2 1,13=linger 1,17=ucred 263,6=tpacketstats
ioctlset 1 0x8914=ifr_flags 0x8916=ifr_addr 0x8918=ifr_dstaddr 0x891a=ifr_broadaddr 0x891c=ifr_netmask 0x891e=ifr_metric 0x8922=ifr_mtu 0x8923=ifr_newname 0x8924=ifr_hwaddr 0x8937=ifr_hwaddr 0x8930=ifr_slave 0x8931=ifr_hwaddr 0x8932=ifr_hwaddr 0x8943=ifr_qlen 0x8971=ifr_map
ioctlget 1 0x8913=ifr_flags 0x8915=ifr_addr 0x8917=ifr_dstaddr 0x8919=ifr_broadaddr 0x891b=ifr_netmask 0x891d=ifr_metric 0x8921=ifr_mtu 0x8927=ifr_hwaddr 0x8929=ifr_slave 0x8933=ifr_index 0x8942=ifr_qlen 0x8970=ifr_map
`

var layouts = sync.OnceValue(func() map[string]*layout { return parseLayouts(layoutText) })

var variants = sync.OnceValue(func() map[string]*variant { return parseVariants(variantText) })
