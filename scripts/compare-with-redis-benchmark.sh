#!/usr/bin/env bash
# Our load generator beside redis-benchmark, against one and the same Redis Cluster on this machine's loopback.
#
#   scripts/compare-with-redis-benchmark.sh [SECONDS [CONNECTIONS [PIPELINE [ROUNDS]]]]     default: 5 32 16 3
#
# Prints operations per second of each, one by one and in pipelines, round by round in changing order, and the
# ratio of the medians. The cluster is what the scenario has: three masters with a replica each. Both
# generators run one thread, write and read values of 64 bytes in a key space of 16384, half of the operations GET
# and half SET, with so many operations (or pipelines) under way at once. redis-benchmark does one after the other, so
# its figure is the harmonic mean of the two; it opens a connection for each operation under way and only counts.
# Ours is the cluster client of the `redis` crate as users have it: operations share four connections to each
# node, and every answer is compared with what must be there.
#
# Expected: at least 0.9 times redis-benchmark's rate, both ways. The exit code is 1 where the medians say
# otherwise. INROADS names another binary than the one that `cargo build` made.
#
# Needs jq, a quiet machine, and redis-server, redis-cli and redis-benchmark: on the PATH, or where a run of
# the scenario has unpacked them.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-5} connections=${2:-32} pipeline=${3:-16} rounds=${4:-3}
inroads=${INROADS:-${CARGO_TARGET_DIR:-target}/debug/inroads}
cache=${INROADS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/inroads}
for folder in "$cache"/software/redis-*/inroads-bin; do PATH=$PATH:$folder; done
for tool in jq redis-server redis-cli redis-benchmark; do
  command -v "$tool" >/dev/null || { echo "there is no $tool here: install it (redis-*: or run the scenario once)" >&2; exit 2; }
done
[ -x "$inroads" ] || { echo "there is no $inroads: run cargo build, or set INROADS" >&2; exit 2; }

work=$(mktemp -d)
servers=()
trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true; wait; rm -r "$work"' EXIT

# Ports that are free now; if another takes one first, its server ends and the cluster is not formed. The bus is
# 10000 above.
base=$((20000 + RANDOM % 10000))
nodes=()
for i in 0 1 2 3 4 5; do
  mkdir "$work/$i"
  redis-server --port $((base + i)) --bind 127.0.0.1 --cluster-enabled yes --cluster-announce-ip 127.0.0.1 \
    --dir "$work/$i" --save '' --appendonly no --logfile log &
  servers+=($!)
  nodes+=("127.0.0.1:$((base + i))")
done
"$inroads" agent redis-form --replicas=1 --within=60 "${nodes[@]}" 2>"$work/form" || { cat "$work/form" >&2; exit 2; }

# Each prints operations/s; $1 is the number of commands in a pipeline.
ours() {
  "$inroads" agent redis-load 127.0.0.1 "$base" --connections "$connections" --seconds "$seconds" --pipeline "$1" |
    jq -er '.[] | select(.errors == 0) | .value | round'
}
theirs() {
  # As many requests as take about the time asked for, by a short run before it.
  local short=$((20000 * $1)) set get
  measured() { redis-benchmark -p "$base" --cluster -c "$connections" -P "$1" -d 64 -r 16384 -n "$2" -t "$3" --csv 2>/dev/null |
    awk -F'","' '$1 == "\"'"${3^^}"'" { printf "%.0f", $2 }'; }
  set=$(measured "$1" "$short" set) get=$(measured "$1" "$short" get)
  set=$(measured "$1" $((set * seconds / 2)) set) get=$(measured "$1" $((get * seconds / 2)) get)
  echo $((2 * set * get / (set + get)))
}

printf '%-16s %10s %14s\n' generator pipeline operations/s
for round in $(seq "$rounds"); do
  order='ours theirs'
  [ $((round % 2)) = 1 ] || order='theirs ours'
  for depth in 1 "$pipeline"; do
    for generator in $order; do
      figure=$("$generator" "$depth")
      echo "$figure" >>"$work/$generator-$depth"
      name=inroads
      [ "$generator" = ours ] || name=redis-benchmark
      printf '%-16s %10s %14s\n' "$name" "$depth" "$figure"
    done
  done
done

median() { sort -n "$work/$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
failed=0
for depth in 1 "$pipeline"; do
  awk -v d="$depth" -v r="$(median "ours-$depth")" -v t="$(median "theirs-$depth")" 'BEGIN {
    printf "inroads/redis-benchmark, medians, pipeline of %d: ×%.2f\n", d, r / t
    exit !(r >= 0.9 * t)
  }' || failed=1
done
exit $failed
