#!/bin/sh
# Fetches what the OHIF tests need beside Debian's node, chromium, orthanc and orthanc-dicomweb. Can be run again.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-audit --no-fund --silent
[ -e app/dist/index.html ] && exit 0
# The npm package of OHIF holds the built viewer: only its tarball is taken, none of its dependencies.
package=$(node -p 'JSON.parse(require("fs").readFileSync("package.json")).ohif.package')
tarball=$(npm pack --silent "$package")
mkdir -p app
tar xzf "$tarball" -C app --strip-components=1
rm "$tarball"
