# Calls each host:port of the command line at 127.0.0.1, and says whether its certificate is trusted.
for target; do
    if reply=$(curl --silent --show-error --resolve "$target:127.0.0.1" "https://$target/" 2>&1); then
        echo accepted
    else
        echo "refused: $reply" | head -n 1
    fi
done
