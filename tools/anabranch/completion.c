/* SPDX-License-Identifier: Apache-2.0 */
/* Completion for bash from the descriptions of the commands, see generate.h. Main thread. */
#include "tools/anabranch/bench_opts.h"
#include "tools/anabranch/generate.h"

#include <stdlib.h>
#include <string.h>

/* Groups come from the nodes that the line names so far. Programs are asked for a moment at most. */
static const char head[] =
    "# Completion of anabranch and anabranchd in bash. Made by `anabranch help --completion`.\n"
    "\n"
    "_anabranch_nodes() { # sets `nodes` to the options and directories that name nodes, up to the cursor\n"
    "    local i word\n"
    "    nodes=()\n"
    "    for ((i = 2; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        case $word in\n"
    "            --data | --config)\n"
    "                [[ $((i + 1)) -lt $COMP_CWORD ]] && nodes+=(\"$word\" "
    "\"${COMP_WORDS[++i]/#\\~/$HOME}\") ;;\n"
    "            -*) ;;\n"
    "            *) [[ -e ${word/#\\~/$HOME}/data.mdb ]] && nodes+=(--data \"${word/#\\~/$HOME}\") ;;\n"
    "        esac\n"
    "    done\n"
    "}\n"
    "\n"
    "# Names; the id of a group whose name the shell might take for something else. Ids too where one was "
    "begun.\n"
    "_anabranch_groups() {\n"
    "    local nodes line id='' plain='^[A-Za-z_][A-Za-z0-9_.:-]*$' number='\"group\": ([0-9]+),'\n"
    "    local name='^ *\"name\": \"(.*)\",?$'\n"
    "    _anabranch_nodes\n"
    "    [[ ${#nodes[@]} -gt 0 ]] || return 0\n"
    "    timeout 2 \"${COMP_WORDS[0]/#\\~/$HOME}\" groups \"${nodes[@]}\" --json 2>/dev/null |\n"
    "        while read -r line; do\n"
    "            if [[ $line =~ $number ]]; then\n"
    "                id=${BASH_REMATCH[1]}\n"
    "                [[ ${COMP_WORDS[COMP_CWORD]} != [0-9]* ]] || echo \"$id\"\n"
    "            elif [[ $line =~ $name && -n $id ]]; then\n"
    "                line=${BASH_REMATCH[1]}\n"
    "                [[ $line =~ $plain ]] && echo \"$line\" || echo \"$id\"\n"
    "                id=''\n"
    "            fi\n"
    "        done | sort -u\n"
    "}\n"
    "\n"
    "_anabranch_reply() { # takes words, one per line, from stdin\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY=($(compgen -W \"$(cat)\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
    "}\n"
    "\n"
    "_anabranch_paths() { # takes -f or -d\n"
    "    local IFS=$'\\n'\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    COMPREPLY=($(compgen \"$1\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
    "}\n"
    "\n"
    "_anabranch() {\n"
    "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} "
    "command=${COMP_WORDS[1]:-}\n"
    "    local options='' words='' paths=-d\n"
    "    COMPREPLY=()\n";

static const char tail[] =
    "    esac\n"
    "    if [[ $command == help ]]; then\n"
    "        [[ $COMP_CWORD == 2 ]] && _anabranch_reply < <(printf '%s\\n' $commands)\n"
    "    elif [[ $current == -* ]]; then\n"
    "        _anabranch_reply < <(printf '%s\\n' $options)\n"
    "    elif [[ $COMP_CWORD == 2 && -n $words ]]; then\n"
    "        _anabranch_reply < <(printf '%s\\n' $words)\n"
    "    elif [[ -n $options && -n $paths ]]; then\n"
    "        _anabranch_paths \"$paths\"\n"
    "    fi\n"
    "    return 0\n"
    "}\n"
    "\n"
    "_anabranchd() {\n"
    "    COMPREPLY=()\n"
    "    case ${COMP_WORDS[COMP_CWORD - 1]} in\n"
    "        -c | --config | --ready-file) _anabranch_paths -f; return 0 ;;\n"
    "    esac\n"
    "    _anabranch_reply < <(timeout 2 \"${COMP_WORDS[0]/#\\~/$HOME}\" --help 2>/dev/null |\n"
    "        grep -oE -- '--[a-z-]+' | sort -u)\n"
    "}\n"
    "\n"
    "complete -F _anabranch anabranch\n"
    "complete -F _anabranchd anabranchd\n";

static void names_of_commands(FILE *out)
{
    fputs("    local commands='", out);
    for (size_t i = 0; commands[i] != NULL; i++) {
        fprintf(out, "%s ", commands[i]->name);
    }
    fputs("help'\n", out);
}

/* What may follow an option. */
static void values_of_options(FILE *out)
{
    option_text option;
    fputs("    case $before in\n"
          "        --data) _anabranch_paths -d; return 0 ;;\n"
          "        --config | --output | -o | --dir | --svg) _anabranch_paths -f; return 0 ;;\n"
          "        --group) _anabranch_reply < <(_anabranch_groups); return 0 ;;\n"
          "        --payload) [[ $command == bench ]] || _anabranch_reply < <(printf '%s\\n' auto raw text "
          "msgpack line); return 0 ;;\n",
          out);
    fputs("        -- ", out);
    for (size_t i = 0; option_describe(i, &option); i++) {
        bool said = strcmp(option.name, "data") == 0 || strcmp(option.name, "config") == 0 ||
                    strcmp(option.name, "output") == 0 || strcmp(option.name, "group") == 0 ||
                    strcmp(option.name, "payload") == 0;
        if (option.value != NULL && option.value[0] != '[' && !said) {
            fprintf(out, "| --%s ", option.name);
        }
    }
    fputs(") return 0 ;;\n    esac\n", out);
}

/* The options that a command's own help names, at the beginning of a line. */
static void foreign_options(FILE *out)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) {
        return;
    }
    ab_bench_help(memory);
    if (fclose(memory) == 0) {
        for (const char *at = text; (at = strstr(at, "\n  --")) != NULL; at += 3) {
            size_t length = strspn(at + 5, "abcdefghijklmnopqrstuvwxyz-");
            fprintf(out, "--%.*s ", (int)length, at + 5);
        }
    }
    free(text);
}

static void own_options(const command *c, FILE *out)
{
    option_text option;
    for (size_t i = 0; option_describe(i, &option); i++) {
        if (option.group == 0 || (option.group & c->options) != 0) {
            fprintf(out, "--%s ", option.name);
        }
    }
}

static void case_of(const command *c, FILE *out)
{
    fprintf(out, "        %s) options='", c->name);
    if (c->usage == NULL) {
        foreign_options(out);
    } else {
        own_options(c, out);
    }
    fputs(c->usage == NULL ? "' paths=''" : "'", out);
    if (c->words != NULL) {
        fprintf(out, " words='%s'", c->words);
    }
    if ((c->options & (OPTION_FILES | OPTION_WORDS)) != 0) {
        fputs(" paths=-f", out);
    }
    fputs(" ;;\n", out);
}

void completion_bash(FILE *out)
{
    fputs(head, out);
    names_of_commands(out);
    fputs("    if [[ $COMP_CWORD == 1 ]]; then\n"
          "        _anabranch_reply < <(printf '%s\\n' $commands --help --version)\n"
          "        return 0\n"
          "    fi\n",
          out);
    values_of_options(out);
    fputs("    case $command in\n", out);
    for (size_t i = 0; commands[i] != NULL; i++) {
        case_of(commands[i], out);
    }
    fputs(tail, out);
}
