#!/bin/sh
# An app on wget: wget.sh ROUNDS or FILE.
. "$(dirname "$0")/rounds.sh"

# Leaves the reply in a file. 4 is the network's failure; what is not trusted or answered with an error has others.
ask() {
    code=0
    wget --quiet --tries=1 --timeout=30 --no-hsts --output-document="$reply" "$@" || code=$?
    case $code in
    0) ;;
    4) exit "$lost" ;;
    *) fail "wget ended with $code" ;;
    esac
}

json='--header=Content-Type: application/json'

a_round() {
    ask "$base/cgi-bin/user/get?access_token=$token"
    grep -q '"count":2' "$reply" || fail "no two followers"
    ask "$json" --post-data="{\"touser\":\"o1\",\"text\":\"第 $1 天\"}" \
        "$base/cgi-bin/message/custom/send?access_token=$token"
    grep -q '"errcode":0' "$reply" || fail "no message"
    ask --header='Content-Type: multipart/form-data; boundary=border' --post-file="$folder/form" \
        "$base/cgi-bin/media/upload?access_token=$token&type=image"
    media=$(field media_id)
    ask "$base/cgi-bin/media/get?access_token=$token&media_id=$media"
    cmp "$folder/photo.jpg" "$reply" || fail "another picture"
    ask "$json" --post-data='{"scene":"a=1"}' "$base/wxa/getwxacodeunlimit?access_token=$token"
    is_picture "$reply" || fail "no picture"
    ask "$base/cgi-bin/ticket/getticket?access_token=$token&type=jsapi"
    field ticket >"$folder/ticket"
    ask "$base/sns/jscode2session?$credential&js_code=wget-$1&grant_type=authorization_code"
    field openid >"$folder/openid"
}

ask "$base/cgi-bin/token?grant_type=client_credential&$credential"
token=$(field access_token)
head -c 1000000 /dev/urandom >"$folder/photo.jpg"
{
    printf -- '--border\r\nContent-Disposition: form-data; name="media"; filename="photo.jpg"\r\n'
    printf 'Content-Type: image/jpeg\r\n\r\n'
    cat "$folder/photo.jpg"
    printf '\r\n--border--\r\n'
} >"$folder/form"
go_on "$1"
