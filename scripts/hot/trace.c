/* trace PROGRAM ARGUMENTS… : prints the names of the functions that PROGRAM and its children run, each once, in the order of
 * their first call, by a breakpoint at the beginning of each. PROGRAM has symbols (nm(1)). x86-64. Another program that is
 * executed on the way is left alone. Source: ptrace(2). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct function {
    unsigned long at;
    char *name;
    unsigned char code;
    int seen;
};

static struct function *functions;
static size_t count;
static off_t size;
/* Where the program is in each process; 0: it runs another one. */
static unsigned long base[1 << 22];

static int by_address(const void *a, const void *b) {
    const struct function *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void read_symbols(const char *program) {
    char command[4096], name[8000], line[8192], kind;
    unsigned long at;
    size_t unique = 0;
    snprintf(command, sizeof command, "nm '%s'", program);
    FILE *nm = popen(command, "r");
    functions = calloc(1 << 18, sizeof *functions);
    while (nm && functions && fgets(line, sizeof line, nm) && count < 1 << 18)
        if (sscanf(line, "%lx %c %7999s", &at, &kind, name) == 3 && strchr("tTWi", kind))
            functions[count++] = (struct function){.at = at, .name = strdup(name)};
    if (nm)
        pclose(nm);
    qsort(functions, count, sizeof *functions, by_address);
    for (size_t i = 0; i < count; i++)
        if (!unique || functions[unique - 1].at != functions[i].at)
            functions[unique++] = functions[i];
    count = unique;
}

static int open_memory(int pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* After an exec: breakpoints, if it is the program. */
static void begin(int pid) {
    char path[64], line[512];
    struct stat meta;
    unsigned long from, offset, inode;
    base[pid] = 0;
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    if (stat(path, &meta) || meta.st_size != size)
        return;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%*x %*s %lx %*s %lu", &from, &offset, &inode) == 3 && inode == meta.st_ino && !offset && !base[pid])
            base[pid] = from;
    if (maps)
        fclose(maps);
    int memory = open_memory(pid);
    for (size_t i = 0; i < count && base[pid]; i++) {
        pread(memory, &functions[i].code, 1, (off_t)(base[pid] + functions[i].at));
        if (!functions[i].seen)
            pwrite(memory, "\xcc", 1, (off_t)(base[pid] + functions[i].at));
    }
    close(memory);
}

/* A trap: whose breakpoint it was, if it was one, is printed; the function goes on as if nothing had been. */
static int breakpoint(int pid) {
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, pid, 0, &registers);
    struct function key = {.at = registers.rip - 1 - base[pid]};
    struct function *found = bsearch(&key, functions, count, sizeof key, by_address);
    if (!found)
        return 0;
    if (!found->seen)
        puts(found->name);
    found->seen = 1;
    int memory = open_memory(pid);
    pwrite(memory, &found->code, 1, (off_t)--registers.rip);
    close(memory);
    ptrace(PTRACE_SETREGS, pid, 0, &registers);
    return 1;
}

int main(int argc, char **argv) {
    struct stat meta;
    int status, living = 1;
    if (argc < 2 || stat(argv[1], &meta))
        return 2;
    size = meta.st_size;
    read_symbols(argv[1]);
    int child = fork();
    if (!child) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(null, 1);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC);
    begin(child);
    ptrace(PTRACE_CONT, child, 0, 0);
    while (living > 0) {
        int pid = waitpid(-1, &status, __WALL), event = status >> 16;
        if (pid < 0)
            break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            living--;
            continue;
        }
        int signal = WSTOPSIG(status);
        if (event == PTRACE_EVENT_EXEC) {
            begin(pid);
            living -= !base[pid];
            ptrace(base[pid] ? PTRACE_CONT : PTRACE_DETACH, pid, 0, 0);
        } else if (event) {
            unsigned long born;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &born);
            base[born] = base[pid];
            living++;
            ptrace(PTRACE_CONT, pid, 0, 0);
        } else if (signal == SIGTRAP && base[pid] && breakpoint(pid)) {
            ptrace(PTRACE_CONT, pid, 0, 0);
        } else {
            ptrace(PTRACE_CONT, pid, 0, signal == SIGSTOP || signal == SIGTRAP ? 0 : signal);
        }
    }
    return 0;
}
