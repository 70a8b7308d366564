/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `anabranch bench`: measures three real nodes against bare log loops. Runs on the main thread. */
#ifndef ANABRANCH_TOOLS_BENCH_H
#define ANABRANCH_TOOLS_BENCH_H

/* argv[0] is "bench". @return exit code: 0 fine, 1 something failed or replicas differ, 2 usage */
int cmd_bench(int argc, char **argv);

#endif
