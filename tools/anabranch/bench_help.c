/* SPDX-License-Identifier: Apache-2.0 */
/* What `anabranch bench --help` prints, see bench_opts.h. Main thread. */
#include "tools/anabranch/bench_opts.h"

static const char about[] =
    "Usage: anabranch bench [OPTIONS]\n"
    "\n"
    "Measures this machine: real node processes on loopback, each with its own log on a real disk, all\n"
    "writing to one multimaster group at once. Every run ends with a check that all replicas have applied\n"
    "every acknowledged entry, once and in order, and that their digests are equal.\n"
    "\n"
    "Absolute figures say more about the disk than about Anabranch. So each round first runs the\n"
    "reference: as many bare LMDB loops as there are nodes, all at once, each committing blocks of 1,000\n"
    "entries with sync and trimming behind. The ratio says how much of what ONE such loop logs per second\n"
    "is replicated to ALL nodes per second; it is what to compare between machines and versions.\n"
    "Beside it stands what one loopback TCP connection carries, as entries of that size a second.\n"
    "\n";

static const char measured[] =
    "What to measure:\n"
    "  --cases LIST       of many,one,latency,silence,idle (default: all but idle)\n"
    "                       many     ab_write_many with --batch entries a call, all nodes\n"
    "                       one      ab_write, one entry a call, many outstanding, all nodes\n"
    "                       latency  one writer on node 1, one ab_write_wait of one entry at a time;\n"
    "                                its reference is one bare loop with one entry per commit\n"
    "                       silence  four such writes, then 20 ms of silence, again and again: the time "
    "from\n"
    "                                the call of the last until every replica has applied it; its reference\n"
    "                                is a bare loop in the same rhythm, the last commit before each rest\n"
    "                       idle     (only when named) nothing is written: memory, CPU and time to open of\n"
    "                                one group and of --idle-groups\n"
    "  --latency          the same as --cases latency\n"
    "  --idle             the same as --cases idle\n"
    "  --rounds N         reference and cases in turn, N times; medians are shown (3)\n"
    "  --duration S       seconds of measured writing per run, fractions allowed (5)\n"
    "  --warmup S         seconds of writing before that: files and buffers reach their size (1)\n"
    "  --entries N        stop each node after N entries instead, without warm-up (the reference keeps to "
    "time)\n"
    "\n";

static const char load[] =
    "Load, of each node:\n"
    "  --writers N        threads that write (1)\n"
    "  --batch N          entries per ab_write_many (100)\n"
    "  --payload N        bytes per entry, at least 16 (100)\n"
    "  --in-flight N      entries a writer may have outstanding; completions make room for more (4000)\n"
    "  --rate N           entries per second; latency then counts from when a call was due, so that a\n"
    "                     stall is charged to all calls it delayed (default: as fast as it goes, and\n"
    "                     latency counts from the call)\n"
    "\n";

static const char cluster[] =
    "Cluster:\n"
    "  --nodes N          1 to 7 (3)\n"
    "  --groups N         writers go round over them (1)\n"
    "  --idle-groups N    of case idle (10000)\n"
    "  --backend B        of the groups; what the backend cannot do is an error (multimaster)\n"
    "  --link-delay MS    between any two nodes, each way, fractions allowed, through a relay in the bench\n"
    "                     whose CPU is not counted (0)\n"
    "  --link-rate N      bytes a second between any two nodes, each way; K, M and G count thousands, "
    "millions\n"
    "                     and so on (no limit)\n"
    "  --durability D     sync, interval, none (sync)\n"
    "  --level L          write level: memory, local, quorum, all, as the backend offers (local)\n"
    "  --order O          order of apply: causal, arrival (causal)\n"
    "  --dispatchers N    dispatcher threads per node (1)\n"
    "  --apply-threads N  apply threads per node (2)\n"
    "  --block-bytes N    a block is closed when it has grown to this (393216)\n"
    "  --queue-bytes N    written, not yet logged, per group (8388608)\n"
    "  --dir DIR          where the data directories are made ($TMPDIR, else the current directory);\n"
    "                     use the disk that you want to know about. tmpfs is no disk: you get a warning\n"
    "  --keep             leave the data directories there\n"
    "\n";

static const char output[] =
    "Reference:\n"
    "  --ref-block N      entries per commit (1000)\n"
    "  --ref-backlog N    blocks kept before the oldest is deleted (64)\n"
    "\n"
    "Output:\n"
    "  --svg PREFIX       plots: PREFIX-throughput.svg and PREFIX-latency.svg\n"
    "  --json             everything measured, per round and as medians, as JSON\n"
    "  --verbose          warnings and metrics of the nodes, and each run, on standard error\n"
    "  --help             this text\n"
    "\n";

static const char figures[] =
    "How to read the figures:\n"
    "  replicated/s       all entries, divided by the time from the start of writing until the last\n"
    "                     replica had applied the last of them\n"
    "  acknowledged/s     all entries, divided by the time from the start to the last acknowledgement\n"
    "  catch-up           from the last acknowledgement to the last apply on the last replica\n"
    "  CPU s / million    of all processes together; for the loops: per million entries that each logged\n"
    "  wire               bytes sent per payload byte and peer\n"
    "  log bytes          bytes in write calls to files, per payload byte and node\n"
    "  storage bytes      the same as the kernel counts it: where it caches files in large pages, all of "
    "one\n"
    "                     counts when a part is written\n"
    "  peak memory        of the largest process; the mapped pages of its log count\n"
    "\n"
    "Exit status: 0 fine; 1 a node failed, an acknowledged entry is missing, or replicas differ; 2 usage.\n"
    "\n"
    "Examples:\n"
    "  anabranch bench                                 the whole comparison, about a minute\n"
    "  anabranch bench --cases many --rounds 1 --groups 16 --writers 4\n"
    "  anabranch bench --cases one --rate 50000        latency under a fixed load\n"
    "  anabranch bench --latency --json | jq .median.latency\n";

void ab_bench_help(FILE *out)
{
    const char *const parts[] = {about, measured, load, cluster, output, figures};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        fputs(parts[i], out);
    }
}
