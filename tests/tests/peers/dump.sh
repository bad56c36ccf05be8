# What a process can see of itself and around it, one fact a line, for comparing. Runs as busybox's sh inside of a container.
umask=$(umask)
sort_status() { grep -E "^($1):" /proc/self/status | sed "s/^/$2 /"; }
echo "umask $umask"
ls -l /proc/self/fd 2>/dev/null | awk 'NR > 1 { print "descriptor", $1, $9 }'
sort_status 'Uid|Gid|Groups|Cap[A-Z][a-z]*|NoNewPrivs|Seccomp|Seccomp_filters|Cpus_allowed_list|SigBlk' status
tr '\0' '\n' </proc/$$/environ | sed 's/^/environment /'
tr '\0' '\n' </proc/$$/cmdline | sed 's/^/argument /'
echo "directory $(readlink /proc/self/cwd)"
sed 's/^/limit /' /proc/self/limits
for file in oom_score_adj personality uid_map gid_map setgroups timens_offsets coredump_filter cgroup; do
    sed "s/^/$file /" /proc/self/$file
done
# Leader of its session and group, terminal, niceness, policy: proc_pid_stat(5).
awk '{ sub(/.*\) /, ""); print "session", ($3 == $4), $5, $16, $17, $39 }' /proc/$$/stat
hostname | sed 's/^/host name /'
for file in kernel/domainname kernel/shmmax kernel/msgmax kernel/sem net/ipv4/ip_forward net/core/somaxconn; do
    echo "sysctl $file $(cat /proc/sys/$file)"
done
awk '/_ses\./ { print "keyring", $9 }' /proc/keys
awk 'NR > 2 { print "link", $1 }' /proc/net/dev
# On which mount, what of it, where, options, propagation, type, the super block's options.
awk '{ at[$1] = $5; line[NR] = $0; parent[NR] = $2 }
    END { for (n = 1; n <= NR; n++) {
        split(line[n], halves, " - "); split(halves[1], f, " "); split(halves[2], s, " ")
        peers = ""
        for (i = 7; i in f; i++) { sub(/:.*/, "", f[i]); peers = peers " " f[i] }
        if (at[parent[n]] == "") f[4] = "root"
        print "mount " f[5], "on", at[parent[n]], f[4], f[6] peers, s[1], s[3]
    } }' /proc/self/mountinfo
find /dev /a -exec stat -c 'file %n %F %a %u:%g %t:%T' {} + 2>/dev/null
for path in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger /proc/sys/kernel/core_pattern /etc/passwd /etc /; do
    [ -d $path ] && echo "entries of $path: $(ls $path | wc -l)"
    [ -f $path ] && { head -c 1 $path >/dev/null 2>&1 && echo "can read $path" || echo "cannot read $path"; }
    [ -d $path ] && { (: >$path/written) 2>/dev/null && echo "can write $path" || echo "cannot write $path"; rm -f $path/written 2>/dev/null; }
    [ -f $path ] && { (: >>$path) 2>/dev/null && echo "can write $path" || echo "cannot write $path"; }
done
settings='cpu\.(shares|cfs_.*_us|idle|weight|max|max.burst)|cpuset\.(cpus|mems)|memory\.(limit_in_bytes|memsw.limit_in_bytes|soft_limit_in_bytes|swappiness|oom_control|max|low|high|swap.max)|pids.max|blkio.*weight.*|blkio.throttle.*_device|io.(max|weight|bfq.weight)|hugetlb.*max|devices.list'
find /sys/fs/cgroup -type f 2>/dev/null | grep -E "/($settings)$" | while read -r file; do
    sed "s|^|cgroup $file |" "$file" 2>/dev/null
done
echo end
