# Process 1 of a server's container. Its owner holds the other end of standard input: first come the secrets, as the
# shell's own assignments, then `run`, then nothing for as long as the owner lives. The container ends with that. What
# the program does is told on standard output; all of its own output goes to standard error.
nl='
'
while IFS= read -r line || exit 1; do
  [ "$line" = run ] && break
  eval "export $line"
done
unset line
{
  "$@" </dev/null 3>&1 >&2 &
  wait "$!"
  status=$?
  # The kernel counts before it kills; the engine tells later, if at all. The two versions of control groups.
  events="/sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control"
  [ "$status" = 137 ] && grep -qs '^oom_kill [1-9]' $events && status=out-of-memory
  echo "exit $status"
} </dev/null &
read -r _
