/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of `anabranch help`. Constant data; any thread. */
#include "tools/anabranch/cli.h"

#include <stdio.h>
#include <string.h>

#define NODES                                                                                                \
    "  --data DIR       data directory of a node; may be given several times\n"                              \
    "  --config FILE    a node's configuration, instead of its directory; may be given several times\n"
#define JSON "  --json           print a JSON document instead\n"

static const struct {
    const char *command;
    const char *text;
} texts[] = {
    {"", "anabranch: looks into nodes of Anabranch, running or not. It never changes anything.\n"
         "\n"
         "Usage: anabranch COMMAND [OPTION...]\n"
         "\n"
         "  status           nodes and their groups, and what is wrong with them\n"
         "  peers            links between the nodes, and how far each peer is behind\n"
         "  log              entries of the log\n"
         "  verify           walk the whole log and list what is damaged\n"
         "  digest           compare the data of replicas\n"
         "  config check     check configuration files\n"
         "  bench            measure three nodes on this machine\n"
         "  help COMMAND     options and examples of a command; also COMMAND --help\n"
         "  --version        version of the library\n"
         "\n"
         "A running node is asked through admin.sock in its data directory; the log of one that does not run "
         "is read\n"
         "as it is. Exit codes: 0 all is well, 1 something is wrong with the data or the cluster, 2 wrong "
         "usage.\n"},
    {"status",
     "anabranch status: nodes and their groups, and what is wrong with them.\n"
     "\n"
     "Usage: anabranch status --data DIR... [OPTION...]\n"
     "\n" NODES "  --group ID       only this group\n"
     "  --streams        also every stream of every group\n" JSON "\n"
     "Columns: APPLY blocks logged and not yet given to the state machine; BEHIND entries that the slowest\n"
     "peer has not confirmed; QUARANTINED entries that the state machine refused for good.\n"
     "\n"
     "Exit code 1 if a node is not running or cannot be asked, its log takes no writes, a link is down, a\n"
     "group refuses writes, its state machine fails, or it has quarantined, damaged or diverged data.\n"
     "\n"
     "Examples:\n"
     "  anabranch status --data /var/lib/anabranch\n"
     "  anabranch status --data n1 --data n2 --data n3\n"
     "  anabranch status --config /etc/anabranch/node.yaml --json | jq .problems\n"},
    {"peers",
     "anabranch peers: links between the nodes, and how far each peer is behind.\n"
     "\n"
     "Usage: anabranch peers --data DIR... [OPTION...]\n"
     "\n" NODES "  --group ID       only this group\n"
     "  --all            every stream, not only those that are behind\n" JSON "\n"
     "Columns: BEHIND entries that the peer has not confirmed as stored durably; OLDEST age of the oldest "
     "of\n"
     "them; SILENT time since the peer was last heard of.\n"
     "\n"
     "Exit code 1 if a node is not running, a link is down, or a stream is diverged, damaged or trimmed.\n"
     "\n"
     "Examples:\n"
     "  anabranch peers --data n1 --data n2 --data n3\n"
     "  anabranch peers --data n1 --group 3 --all\n"},
    {"log",
     "anabranch log: entries of the log, by group, stream and index.\n"
     "\n"
     "Usage: anabranch log --data DIR... [OPTION...]\n"
     "\n" NODES "  --group ID       only this group\n"
     "  --stream N.E     only this stream: node and epoch of its origin\n"
     "  --from INDEX     from this index of each stream\n"
     "  --to INDEX       up to this index of each stream\n"
     "  --limit N        at most so many entries of each node\n"
     "  --bytes N        show so many bytes of each payload (40; at most 65536)\n"
     "  --json           print one JSON object per line instead\n"
     "\n"
     "A payload that is mostly text is shown as text, with \\xNN for what is not; any other in hexadecimal.\n"
     "\n"
     "Exit code 1 if the log cannot be read, or a part of it.\n"
     "\n"
     "Examples:\n"
     "  anabranch log --data n1 --limit 20\n"
     "  anabranch log --data n1 --group 2 --stream 1.1732180000 --from 1000 --to 1010 --bytes 4096\n"
     "  anabranch log --data n1 --json | jq -r .payload_hex | xxd -r -p\n"},
    {"verify",
     "anabranch verify: walk the whole log and list what is damaged.\n"
     "\n"
     "Usage: anabranch verify --data DIR... [OPTION...]\n"
     "\n" NODES JSON "\n"
     "Checks every block: checksum, entries, continuity, the chain of hashes; and the recorded ends of the\n"
     "streams. May run beside a node that is writing.\n"
     "\n"
     "Exit code 1 if anything is wrong.\n"
     "\n"
     "Examples:\n"
     "  anabranch verify --data /var/lib/anabranch\n"
     "  anabranch verify --data backup-of-n1 --json\n"},
    {"digest",
     "anabranch digest: compare the data of replicas.\n"
     "\n"
     "Usage: anabranch digest --data DIR --data DIR... [OPTION...]\n"
     "\n" NODES "  --group ID       only this group\n"
     "  --timeout S      wait so long for replicas that are still behind (10)\n" JSON "\n"
     "Asks each node for the digest of its state machine and for the frontier it stands for. Replicas with\n"
     "the same frontier must have the same digest. While frontiers differ it asks again.\n"
     "\n"
     "Exit code 1 if replicas differ, do not catch up in time, or cannot be asked.\n"
     "\n"
     "Examples:\n"
     "  anabranch digest --data n1 --data n2 --data n3\n"
     "  anabranch digest --config a.yaml --config b.yaml --group 3 --timeout 60\n"},
    {"config",
     "anabranch config check: check configuration files, as the library reads them.\n"
     "\n"
     "Usage: anabranch config check FILE... [OPTION...]\n"
     "\n" JSON "\n"
     "An error says FILE:LINE: KEY: what is wrong (what is allowed). The mapping `application:` is left to\n"
     "the program that uses the library.\n"
     "\n"
     "Exit code 1 if a file cannot be used.\n"
     "\n"
     "Examples:\n"
     "  anabranch config check /etc/anabranch/node.yaml\n"},
};

bool help_print(const char *command, FILE *out)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(texts[i].command, command != NULL ? command : "") == 0) {
            fputs(texts[i].text, out);
            return true;
        }
    }
    return false;
}
