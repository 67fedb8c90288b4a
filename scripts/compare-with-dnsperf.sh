#!/usr/bin/env bash
# Our load generator beside dnsperf, against one and the same cluster DNS: that of a lab on this machine.
#
#   scripts/compare-with-dnsperf.sh [SECONDS [CONNECTIONS [ROUNDS]]]      default: 5 16 3
#
# Prints lookups per second of each, round by round in changing order, and the ratio of the medians. Both run on the
# laptop that `route` connects, ask the cluster's DNS at its own address over UDP, and have one lookup under way on
# each of so many sockets, after a second of warm-up. They ask the scenario's four questions in turn: a Service, a
# headless Service, its SRV records and a missing name. Ours is told to by the order that a run gives a laptop. It is
# one thread and compares code and count of every answer; dnsperf has one that sends and one that receives, and
# counts codes, which are looked at here.
#
# Expected: at least 0.9 times dnsperf's rate, and no errors. The exit code is 1 where the figures say otherwise, 2
# where there are none. INROADS names another binary than the one that `cargo build` made.
#
# Needs dnsperf and jq (Debian: apt-get install dnsperf jq), what a lab needs (`inroads doctor`), and a quiet machine:
# on two cores the server and the generator have one each.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-5} connections=${2:-16} rounds=${3:-3}
inroads=${INROADS:-${CARGO_TARGET_DIR:-target}/debug/inroads}
for tool in dnsperf jq unshare; do
  command -v "$tool" >/dev/null || { echo "there is no $tool here: apt-get install dnsperf jq util-linux" >&2; exit 2; }
done
[ -x "$inroads" ] || { echo "there is no $inroads: run cargo build, or set INROADS" >&2; exit 2; }

# Everything below is on the laptop, where only this script sees another /etc/resolv.conf.
[ -n "${INROADS_LAPTOP:-}" ] ||
  exec "$inroads" shell route --cluster lab -- unshare --mount "scripts/${0##*/}" "$seconds" "$connections" "$rounds"

work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# As `scenarios/src/dns` has it; answers that differ are errors.
namespace=inroads domain=cluster.local
suffix=$namespace.svc.$domain
addresses() { getent ahostsv4 "$1" | cut -d' ' -f1 | sort -u; }
server=$(addresses "kube-dns.kube-system.svc.$domain")
members=$(addresses "peers.$suffix" | wc -l)
cat >"$work/questions" <<EOF
directory.$suffix A
peers.$suffix A
_http._tcp.peers.$suffix SRV
no-such-service.$suffix A
EOF
# Instead of the laptop's own resolver, which would be measured too.
echo "nameserver $server" >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf

order=$(jq -cn --arg namespace "$namespace" --arg domain "$domain" \
  --argjson members "$members" --argjson connections "$connections" --argjson seconds "$seconds" '
  [range($members) | "member-\(.)"] as $pods
  | { load: "lookups", connections: $connections, rate: null, seed: 1,
      warm_up: { "up-to": { secs: 1, nanos: 0 } }, window: { secs: $seconds, nanos: 0 } } as $load
  | { namespace: $namespace, domain: $domain, dns: null,
      services: { peers: { cluster_ip: null, ports: {}, endpoints: $pods } },
      # How many answers there must be is all that they are asked for.
      pods: ($pods | map({ (.): { ip: "192.0.2.1", node: "" } }) | add) } as $workload
  | { id: 1, order: { measure: { scenario: "dns", load: $load, workload: $workload, access: { access: "unmodified" } } } }')

# Each prints: lookups/s, errors.
ours() {
  # The end of its input would end the load.
  coproc laptop { "$inroads" agent laptop; }
  local answer
  echo "$order" >&"${laptop[1]}"
  read -r answer <&"${laptop[0]}"
  # shellcheck disable=SC2154 # coproc sets it
  kill "$laptop_PID"
  jq -er '.answer.measured[0] | "\(.value | round) \(.errors)"' <<<"$answer" || { echo "$answer" >&2; return 2; }
}
theirs() {
  local common=(-s "$server" -d "$work/questions" -c "$connections" -q "$connections")
  dnsperf "${common[@]}" -l 1 >/dev/null
  # Three of four names are there, give or take the last round of questions.
  dnsperf "${common[@]}" -l "$seconds" | awk '
    /Queries sent:/ { sent = $3 }
    /Queries lost:/ { lost = $3 }
    /Response codes:/ { for (i = 3; i < NF; i += 3) { gsub(/,/, "", $(i + 1)); codes[$i] = $(i + 1) } }
    /Queries per second:/ { rate = $4 }
    END {
      strays = sent - lost - codes["NOERROR"] - codes["NXDOMAIN"]
      short = codes["NXDOMAIN"] * 4 - sent; if (short < 0) short = -short
      if (!rate || short > 4 + 4 * lost) { print "dnsperf got other answers than it asked for" > "/dev/stderr"; exit 2 }
      printf "%.0f %d\n", rate, lost + strays
    }'
}

printf '%-10s %12s %8s\n' generator lookups/s errors
for round in $(seq "$rounds"); do
  order_of_round='ours theirs'
  [ $((round % 2)) = 1 ] || order_of_round='theirs ours'
  for generator in $order_of_round; do
    figures=$("$generator")
    echo "$figures" >>"$work/$generator"
    name=inroads
    [ "$generator" = ours ] || name=dnsperf
    # shellcheck disable=SC2086 # two words
    printf '%-10s %12s %8s\n' "$name" $figures
  done
done

median() { cut -d' ' -f1 "$work/$1" | sort -n | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }
errors=$(cat "$work/ours" "$work/theirs" | awk '{ errors += $2 } END { print errors }')
awk -v r="$(median ours)" -v t="$(median theirs)" -v errors="$errors" 'BEGIN {
  printf "inroads/dnsperf, medians: lookups ×%.2f\n", r / t
  exit !(r >= 0.9 * t && errors == 0)
}'
