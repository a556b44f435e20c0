#!/usr/bin/env bash
# testapp: commits a counter to a git repository in DATA, the volume that is migrated, and then the
# same to one in VERIFY, a volume that is not. So whatever happens to DATA, VERIFY knows what was
# promised: the counter in DATA is the same, or one ahead.
#
#   app.sh run         the app
#   app.sh pre-stop    the preStop hook: returns once the app has stopped writing
#   app.sh counts      the counters in both repositories
#   app.sh check       holds the app, judges everything there is, lets it go on
#
# Exit codes: 0 stopped as asked; 1 one repository is there and the other is not; 2 git fsck found
# damage; 3 the counters disagree; 4 pages or small files disagree; 5 a command failed, which says
# why; 64 usage.

set -Eeuo pipefail

DATA=${APP_DATA:-/data}
VERIFY=${APP_VERIFY:-/verify}
# Flags between the app and those who run this script beside it. It does not outlive the pod.
FLAGS=${APP_FLAGS:-/run/testapp}
# "mini" stops writing after the first fsck.
TYPE=${APP_TYPE:-full}
# Commits from one fsck to the next.
FSCK_EVERY=${APP_FSCK_EVERY:-100}
# Seconds between two commits.
PAUSE=${APP_PAUSE:-0.05}
# MiB of random files beside the repository, of which a second writer rewrites pages all the time,
# and the MiB of each of them.
FILL_MB=${APP_FILL_MB:-0}
FILE_MB=${APP_FILE_MB:-16}
# Small random files beside those, of which that writer rewrites one each time, and their bytes.
SMALL_FILES=${APP_SMALL_FILES:-0}
SMALL_BYTES=${APP_SMALL_BYTES:-8192}
# Pages of 4 KiB which the writer rewrites at a time, and the seconds between two times.
WRITE_PAGES=${APP_WRITE_PAGES:-8}
WRITE_PAUSE=${APP_WRITE_PAUSE:-0.02}

PAGE=4096
# Small files in a folder.
FOLDER=1000
FILES=$(((FILL_MB + FILE_MB - 1) / FILE_MB))

# Of git's settings only ours: a commit counts once it is on the disk, nothing is repacked by a
# process that outlives the commit, and the volumes' owner may be another user.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_COUNT=6
export GIT_CONFIG_KEY_0=core.fsync GIT_CONFIG_VALUE_0=all
export GIT_CONFIG_KEY_1=gc.auto GIT_CONFIG_VALUE_1=0
export GIT_CONFIG_KEY_2=safe.directory GIT_CONFIG_VALUE_2='*'
export GIT_CONFIG_KEY_3=user.name GIT_CONFIG_VALUE_3=testapp
export GIT_CONFIG_KEY_4=user.email GIT_CONFIG_VALUE_4=testapp@localhost
export GIT_CONFIG_KEY_5=init.defaultBranch GIT_CONFIG_VALUE_5=main

say() {
    printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2
}

fail() {
    say "$2"
    exit "$1"
}

trap 'fail 5 "line $LINENO: a command failed: $BASH_COMMAND"' ERR

# The counter as committed; what lies beside it in the working tree promises nothing.
counter() {
    git -C "$1/repository" show HEAD:counter.yaml | sed -n 's/^count: //p'
}

compare_counters() {
    local verify data
    verify=$(counter "$VERIFY")
    data=$(counter "$DATA")
    ((data == verify || data == verify + 1)) ||
        fail 3 "the counters disagree: $data in DATA, $verify in VERIFY"
}

fsck() {
    local volume
    for volume in "$DATA" "$VERIFY"; do
        git -C "$volume/repository" fsck --full --strict --no-progress --no-dangling ||
            fail 2 "git fsck found damage in $volume/repository"
    done
}

commit() {
    local repository=$1/repository count=$2
    {
        echo "count: $count"
        echo "date: $(date --iso-8601=ns)"
        echo "head: $(git -C "$repository" rev-parse --verify --quiet HEAD || echo none)"
    } >"$repository/counter.yaml"
    head -c 3072 /dev/urandom | base64 >"$repository/random.b64"
    git -C "$repository" add counter.yaml random.b64
    git -C "$repository" commit --quiet --message "$count"
}

# Both are initialised or neither is. One alone means that a volume was swapped for an empty one.
open_repositories() {
    local volume there=0
    for volume in "$DATA" "$VERIFY"; do
        if [[ -e $volume/repository/.git ]]; then
            there=$((there + 1))
        fi
    done
    case $there in
    0)
        for volume in "$DATA" "$VERIFY"; do
            git init --quiet "$volume/repository"
            commit "$volume" 0
        done
        ;;
    1) fail 1 "of the repositories in $DATA and $VERIFY one is there and the other is not" ;;
    2)
        # Nobody but us uses them, so a lock is what a kill has left.
        for volume in "$DATA" "$VERIFY"; do
            find "$volume/repository/.git" -name '*.lock' -delete
        done
        compare_counters
        ;;
    esac
}

# The random files, the same in both volumes, once.
fill() {
    local at name volume
    if [[ -e $DATA/fill/complete && -e $VERIFY/fill/complete ]]; then
        repeat_burst
        return
    fi
    ((FILES + SMALL_FILES > 0)) || return 0
    say "filling $DATA with $((FILES * FILE_MB)) MiB and $SMALL_FILES small files"
    mkdir -p "$DATA/fill" "$VERIFY/fill"
    for ((at = 0; at < FILES; at++)); do
        printf -v name '%05d' "$at"
        dd if=/dev/urandom bs=1M count="$FILE_MB" iflag=fullblock status=none |
            tee "$DATA/fill/$name" >"$VERIFY/fill/$name"
    done
    fill_small
    for volume in "$DATA" "$VERIFY"; do
        sync --file-system "$volume"
        touch "$volume/fill/complete"
    done
}

fill_small() {
    local at number folder volume
    for volume in "$DATA" "$VERIFY"; do
        mkdir -p "$volume/fill/small"
    done
    for ((at = 0; at < SMALL_FILES; at += FOLDER)); do
        printf -v folder '%05d' "$((at / FOLDER))"
        mkdir -p "$DATA/fill/small/$folder"
        number=$((SMALL_FILES - at < FOLDER ? SMALL_FILES - at : FOLDER))
        head -c "$((number * SMALL_BYTES))" /dev/urandom |
            split --numeric-suffixes --suffix-length=3 --bytes="$SMALL_BYTES" - \
                "$DATA/fill/small/$folder/"
    done
    cp -R "$DATA/fill/small/." "$VERIFY/fill/small/"
}

# A kill can come between the two writes of a burst: what DATA has of it is what counts.
repeat_burst() {
    local file page
    [[ -s $VERIFY/fill/burst ]] || return 0
    read -r file page <"$VERIFY/fill/burst"
    if [[ $page == whole ]]; then
        cp "$DATA/fill/$file" "$VERIFY/fill/$file"
    else
        copy_pages "$DATA/fill/$file" "$page" "$VERIFY/fill/$file" "$page"
    fi
}

# copy_pages SOURCE PAGE DESTINATION PAGE [dd's conversions]
copy_pages() {
    dd if="$1" skip="$2" of="$3" seek="$4" bs="$PAGE" count="$WRITE_PAGES" \
        conv="notrunc${5:+,$5}" status=none
}

# Rewrites what was filled, until it is to stop.
rewrite() {
    while [[ ! -e $FLAGS/stop ]]; do
        hold held-writer
        ((FILES == 0)) || rewrite_pages
        ((SMALL_FILES == 0)) || rewrite_small
        sleep "$WRITE_PAUSE"
    done
}

# Rewrites pages in DATA and then, once they are on the disk, in VERIFY.
rewrite_pages() {
    local file page last=$((FILE_MB * 1048576 / PAGE - WRITE_PAGES))
    printf -v file '%05d' "$((SRANDOM % FILES))"
    page=$((SRANDOM % (last + 1)))
    echo "$file $page" >"$VERIFY/fill/burst"
    dd if=/dev/urandom of="$FLAGS/burst" bs="$PAGE" count="$WRITE_PAGES" status=none
    copy_pages "$FLAGS/burst" 0 "$DATA/fill/$file" "$page" fdatasync
    copy_pages "$FLAGS/burst" 0 "$VERIFY/fill/$file" "$page"
}

# The same with a whole small file.
rewrite_small() {
    local file at=$((SRANDOM % SMALL_FILES))
    printf -v file 'small/%05d/%03d' "$((at / FOLDER))" "$((at % FOLDER))"
    echo "$file whole" >"$VERIFY/fill/burst"
    head -c "$SMALL_BYTES" /dev/urandom >"$FLAGS/burst"
    dd if="$FLAGS/burst" of="$DATA/fill/$file" bs=1M conv=fdatasync status=none
    cp "$FLAGS/burst" "$VERIFY/fill/$file"
}

# Stands still while `check` looks, and says so in the flag $1.
hold() {
    [[ -e $FLAGS/hold ]] || return 0
    touch "$FLAGS/$1"
    while [[ -e $FLAGS/hold && ! -e $FLAGS/pre-stop-start ]]; do
        sleep 0.01
    done
    rm -f "$FLAGS/$1"
}

run() {
    local count writer="" terminated=""
    # As process 1 we get no signal that we do not ask for.
    trap 'terminated=yes' TERM INT
    # However the app ends, the writer of pages does not write on.
    trap 'touch "$FLAGS/stop"' EXIT
    mkdir -p "$FLAGS"
    rm -f "$FLAGS"/*
    open_repositories
    fill
    if ((FILES + SMALL_FILES > 0)); then
        rewrite &
        writer=$!
    fi
    count=$(counter "$DATA")
    say "starting from $count"
    while [[ -z $terminated && ! -e $FLAGS/pre-stop-start ]]; do
        hold held-app
        count=$((count + 1))
        commit "$DATA" "$count"
        commit "$VERIFY" "$count"
        # Ready means that it has written, not that it might.
        [[ -e $FLAGS/ready ]] || touch "$FLAGS/ready"
        if ((count % FSCK_EVERY == 0)); then
            fsck
            compare_counters
            say "$count commits, both repositories are sound"
            [[ $TYPE != mini ]] || break
        fi
        [[ -z $writer ]] || kill -0 "$writer" 2>/dev/null || fail 4 "the writer of pages and files has ended"
        sleep "$PAUSE"
    done
    touch "$FLAGS/stop"
    [[ -z $writer ]] || wait "$writer" || wait "$writer"
    say "stopped writing at $count"
    touch "$FLAGS/pre-stop-done"
    until [[ -n $terminated ]]; do
        sleep 0.01
    done
}

pre_stop() {
    touch "$FLAGS/pre-stop-start"
    until [[ -e $FLAGS/pre-stop-done ]]; do
        sleep 0.01
    done
}

counts() {
    echo "data: $(counter "$DATA")"
    echo "verify: $(counter "$VERIFY")"
}

check() {
    local name
    until [[ -e $FLAGS/ready ]]; do
        sleep 0.01
    done
    trap 'rm -f "$FLAGS/hold"' EXIT
    touch "$FLAGS/hold"
    until [[ -e $FLAGS/held-app || -e $FLAGS/pre-stop-done ]]; do
        sleep 0.01
    done
    if [[ -e $DATA/fill/complete ]]; then
        until [[ -e $FLAGS/held-writer || -e $FLAGS/pre-stop-done ]]; do
            sleep 0.01
        done
        for name in "$VERIFY"/fill/[0-9]*; do
            cmp "$DATA/fill/${name##*/}" "$name" ||
                fail 4 "pages of ${name##*/} are not what was written"
        done
        diff --recursive --brief "$DATA/fill/small" "$VERIFY/fill/small" ||
            fail 4 "small files are not what was written"
    fi
    fsck
    compare_counters
    counts
    echo "pages: $(((FILES * FILE_MB * 1048576) / PAGE))"
    echo "small files: $SMALL_FILES"
}

case ${1:-} in
run) run ;;
pre-stop) pre_stop ;;
counts) counts ;;
check) check ;;
*) fail 64 "usage: app.sh run|pre-stop|counts|check" ;;
esac
