# Runs "$@" so that it cannot outlive its owner, who holds the other end of standard input. Control messages go to
# standard output, all of the program's output to standard error.
exec 4<&0
ulimit -c 0
ulimit -n 4096 2>/dev/null
"$@" </dev/null 3>&1 >&2 4<&- &
child=$!
exec 2>/dev/null
# What bubblewrap starts does not die with it before it has asked for that, so it is killed by name.
{
  read -r _ <&4
  kill -STOP "$child"
  read -r inner <"/proc/$child/task/$child/children"
  kill -KILL $inner "$child"
} </dev/null >/dev/null &
watcher=$!
exec 4<&-
echo "pid $child"
exec >/dev/null
wait "$child"
status=$?
kill -KILL "$watcher"
wait "$watcher"
exit "$status"
