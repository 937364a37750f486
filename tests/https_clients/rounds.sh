# How long an app goes on, and what curl.sh and wget.sh have in common. The last word of an app is a number of rounds,
# or the path of a file: then it makes rounds until there is this file, and one in which a call got no reply begins
# again.
set -eu

base=https://api.weixin.qq.com
appid=wx0123456789abcdef
credential="appid=$appid&secret=no-secret-here"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
reply=$folder/reply
# The exit code of a round in which a call got no reply.
lost=75

fail() {
    echo "$*" >&2
    exit 1
}

# The text of the field $1 in the reply, which must have it.
field() {
    value=$(sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' "$reply")
    [ "$value" ] || fail "no $1: $(head -c 1000 "$reply")"
    echo "$value"
}

# Whether the picture $1 begins as a JPEG does.
is_picture() {
    [ "$(head -c 2 "$1" | od -An -tx1)" = " ff d8" ]
}

is_over() {
    case $1 in
    *[!0-9]*) [ -e "$1" ] ;;
    *) [ "$done" -ge "$1" ] ;;
    esac
}

# Makes the rounds until the end $1, no two of one number, by `a_round NUMBER`.
go_on() {
    done=0
    again=0
    until is_over "$1"; do
        set +e
        (set -e; a_round $((done + again)))
        code=$?
        set -e
        if [ "$code" -eq 0 ]; then
            done=$((done + 1))
            echo "round $done"
        elif [ "$code" -eq "$lost" ] && [ "$again" -lt 100 ] && [ "${1#*[!0-9]}" != "$1" ]; then
            again=$((again + 1))
            echo "again: no reply"
            sleep 0.1
        else
            exit "$code"
        fi
    done
    echo "$done rounds without an error; its token was $token"
}
