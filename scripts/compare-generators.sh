#!/usr/bin/env bash
# All of our load generators beside others of their kind, one after the other, and one table at the end.
#
#   scripts/compare-generators.sh [SECONDS]      default: 5, for each figure
#
# Runs compare-with-wrk.sh (HTTP), compare-with-redis-benchmark.sh (Redis Cluster) and compare-with-dnsperf.sh (DNS),
# which say what is compared and what is expected of it. One that cannot run here is skipped, and its line says why.
# The exit code is 0 where all that ran came out as expected, 1 where something did not, 2 where nothing ran.
# About three minutes, on a machine that does nothing else meanwhile.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-5}
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

ran=0 failed=0
for peer in wrk redis-benchmark dnsperf; do
  printf '\n== %s\n' "$peer"
  status=0
  "./compare-with-$peer.sh" "$seconds" 2>"$work/errors" | tee "$work/figures" || status=$?
  cat "$work/errors" >&2
  sed -n 's|^inroads/[^,]*, medians[,:] ||p' "$work/figures" >"$work/ratios"
  if [ -s "$work/ratios" ]; then
    ran=1
    case $status in
      0) verdict='as expected' ;;
      *) verdict='NOT as expected' failed=1 ;;
    esac
  else
    tail -n 1 "$work/errors" >"$work/ratios"
    case $status in
      2) verdict=skipped ;;
      *) verdict=failed failed=1 ;;
    esac
  fi
  sed "s|^|$(printf '%-16s %-16s' "$peer" "$verdict") |" "$work/ratios" >>"$work/table"
done

printf '\n%-16s %-16s %s\n' 'ours beside' '' 'ours/theirs, medians'
cat "$work/table"
[ $((ran + failed)) -gt 0 ] || exit 2
exit $failed
