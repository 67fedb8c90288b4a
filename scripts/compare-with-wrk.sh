#!/usr/bin/env bash
# Our load generator beside wrk, against one and the same server on this machine's loopback.
#
#   scripts/compare-with-wrk.sh [SECONDS [CONNECTIONS [ROUNDS]]]      default: 5 32 3
#
# Prints requests per second and the p50 and p99 of latency of each, round by round in changing order,
# and the ratio of the medians. The server is `inroads agent http-server`; what is asked for is its
# small answer over connections that stay. Both generators run one thread and a closed loop, after one
# second of warm-up. wrk only counts; ours checks every byte of every answer as well.
#
# Expected: at least wrk's rate, and no more than 1.1 times its p50. The exit code is 1 where the
# medians say otherwise. INROADS names another binary than the one that `cargo build` made.
#
# Needs wrk and jq (Debian: apt-get install wrk jq) and a quiet machine: on two cores the server
# and the generator have one each.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-5} connections=${2:-32} rounds=${3:-3}
inroads=${INROADS:-${CARGO_TARGET_DIR:-target}/debug/inroads}
for tool in wrk jq; do
  command -v "$tool" >/dev/null || { echo "there is no $tool here: apt-get install $tool" >&2; exit 2; }
done
[ -x "$inroads" ] || { echo "there is no $inroads: run cargo build, or set INROADS" >&2; exit 2; }

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -r "$work"' EXIT

# A port that is free now; if another takes it first, the server says so and the wait below ends.
port=$((20000 + RANDOM % 10000))
"$inroads" agent http-server --listen "127.0.0.1:$port" &
server=$!
for _ in $(seq 200); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { echo "the server did not start on port $port" >&2; exit 2; }
  sleep 0.05
done

cat >"$work/wrk.lua" <<'LUA'
done = function(summary, latency)
  local e = summary.errors
  io.stderr:write(string.format("%.0f %.1f %.1f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
LUA

# Each prints: requests/s, p50 in µs, p99 in µs, errors.
ours() {
  "$inroads" agent http-load 127.0.0.1 "$port" --connections "$connections" --seconds "$seconds" |
    jq -r '"\(.requests_per_s | round) \(.p50_us) \(.p99_us) \(.errors)"'
}
theirs() {
  wrk -t1 -c"$connections" -d1s "http://127.0.0.1:$port/" >/dev/null
  wrk -t1 -c"$connections" -d"${seconds}s" -s "$work/wrk.lua" "http://127.0.0.1:$port/" 2>&1 >/dev/null
}

printf '%-10s %12s %12s %12s %8s\n' generator requests/s 'p50 µs' 'p99 µs' errors
for round in $(seq "$rounds"); do
  order='ours theirs'
  [ $((round % 2)) = 1 ] || order='theirs ours'
  for generator in $order; do
    figures=$("$generator")
    echo "$figures" >>"$work/$generator"
    name=inroads
    [ "$generator" = ours ] || name=wrk
    # shellcheck disable=SC2086 # four words
    printf '%-10s %12s %12s %12s %8s\n' "$name" $figures
  done
done

median() { sort -n <(cut -d' ' -f"$2" "$work/$1") | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
awk -v r="$(median ours 1)" -v wr="$(median theirs 1)" -v p="$(median ours 2)" -v wp="$(median theirs 2)" 'BEGIN {
  printf "inroads/wrk, medians: requests ×%.2f, p50 ×%.2f\n", r / wr, p / wp
  exit !(r >= wr && p <= 1.1 * wp)
}'
