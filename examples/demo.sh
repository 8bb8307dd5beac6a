#!/usr/bin/env bash
# Starts a hub and two agents on loopback, on free ports and in a directory of its own, runs the example jobs through the
# command line, shows each command and what came of it, and leaves nothing behind. Usage: demo.sh PATH-TO-BRUME
set -euo pipefail

brume=$(readlink -f "${1:-bin/brume}")
examples=$(dirname "$(readlink -f "$0")")
dir=$(mktemp -d "${TMPDIR:-/tmp}/brume-demo.XXXXXX")
export BRUME_CONTEXT="$dir/context" PATH="$(dirname "$brume"):$PATH"
unset BRUME_ADDR BRUME_TOKEN BRUME_NAMESPACE BRUME_CACERT NOMAD_ADDR NOMAD_TOKEN NOMAD_NAMESPACE NOMAD_CACERT
pids=()

cleanup() {
  code=$?
  trap - EXIT
  trap '' HUP INT TERM # a second Ctrl-C does not leave half of it behind
  set +e
  if [ -e "$BRUME_CONTEXT" ]; then
    # The hub may be between its two lives: it is waited for, because tasks outlive an agent that stops.
    for _ in $(seq 100); do setsid brume job status >/dev/null 2>&1 && break || sleep 0.1; done
    for job in hello web batch; do setsid brume job stop "$job" >/dev/null 2>&1; done
  fi
  # Agents first: with no task left they end their helper processes too.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -TERM "${pids[i]}" 2>/dev/null
    wait "${pids[i]}" 2>/dev/null
  done
  rm -rf "$dir"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n# %s\n' "$*"; }
show() { # print a command, run it, and say how it ended
  printf '\n$ %s\n' "$*"
  local code=0
  "$@" || code=$?
  [ "$code" = 0 ] || printf '(exit code %d)\n' "$code"
  return "$code"
}
start() { # name, command...: run it in the background until it says that it is ready
  local name=$1
  shift
  # In a session of its own: Ctrl-C is for this script, which stops everything in order.
  setsid "$@" >"$dir/$name.out" 2>"$dir/$name.log" &
  pids+=($!)
  for _ in $(seq 200); do
    if grep -q 'is ready' "$dir/$name.out"; then return 0; fi
    if ! kill -0 "${pids[-1]}" 2>/dev/null; then break; fi
    sleep 0.05
  done
  printf '%s did not start:\n' "$name"
  cat "$dir/$name.out" "$dir/$name.log"
  return 1
}

cat >"$dir/agent.hcl" <<'EOF'
# raw_exec runs processes with no isolation, so an agent has it only where its owner says so.
plugin "raw_exec" {}
EOF

say "A hub makes the cluster: its keys, an admin token, and a context for this command line."
printf '$ brume hub --init &\n'
start hub brume hub --init --name hub --data-dir "$dir/hub" --http 127.0.0.1:0 --rpc 127.0.0.1:0 --gossip 127.0.0.1:0
sed "s|$dir|DIR|g" "$dir/hub.out"
rpc=$(sed -n 's/.*brume agent --join \([^ ]*\).*/\1/p' "$dir/hub.out")

say "Two agents join with a token; the token is in the environment, never on a command line."
printf '$ BRUME_JOIN_TOKEN=$(brume join-token create --uses 2)\n'
token=$(brume join-token create --role agent --uses 2 --ttl 5m 2>/dev/null)
for n in n1 n2; do
  printf '$ brume agent --join %s --name %s &\n' "$rpc" "$n"
  BRUME_JOIN_TOKEN=$token start "$n" brume agent --name "$n" --data-dir "$dir/$n" --gossip 127.0.0.1:0 --join "$rpc" --config "$dir/agent.hcl"
  cat "$dir/$n.out"
done
show brume node status

say "A first job, from file to running task:"
show brume job run "$examples/hello.hcl"

say "A web service, three instances, each on a port of its own:"
show brume job run "$examples/web.hcl"
show brume job status web
for address in $(brume job status web | grep -o 'http=[0-9.:]*' | cut -d= -f2); do
  printf '\n$ GET http://%s/\n' "$address"
  exec 3<>"/dev/tcp/${address/://}"
  printf 'GET / HTTP/1.0\r\n\r\n' >&3
  sed -n '$p' <&3
  exec 3<&- 3>&-
done

say "A batch job runs to its end; its output stays readable:"
show brume job run "$examples/batch.hcl"
alloc=$(brume job status batch -o json | sed -n 's/.*"ID": "\([0-9a-f-]\{36\}\)".*/\1/p' | head -1)
show brume alloc logs "$alloc"

say "What can not be placed says why, and what would make it fit (exit code 2):"
cat >"$dir/impossible.hcl" <<'EOF'
job "impossible" {
  constraint {
    attribute = "${attr.kernel.name}"
    value     = "plan9"
  }
  group "g" {
    task "t" {
      driver = "raw_exec"
      config { command = "/bin/true" }
    }
  }
}
EOF
show brume job run "$dir/impossible.hcl" || [ $? = 2 ]
show brume job stop --purge impossible

say "The hub is killed and started again: the tasks do not notice."
kill -KILL "${pids[0]}"
wait "${pids[0]}" 2>/dev/null || true
printf '$ brume hub   # no flags needed again\n'
hub_pid_index=0
setsid "$brume" hub --data-dir "$dir/hub" >"$dir/hub2.out" 2>"$dir/hub2.log" &
pids[hub_pid_index]=$!
for _ in $(seq 200); do grep -q 'is ready' "$dir/hub2.out" && break; sleep 0.05; done
show brume job status web

say "And away again:"
show brume job stop web
show brume job stop hello
say "Done: everything above ran on this machine, as $(id -un), in $dir, which is removed now."
