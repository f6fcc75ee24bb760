#!/bin/sh
# Starts the host agent of docker-compose.yml. The enrolment key is given until this host knows its relay, and then removed:
# with a key, the agent takes whatever relay is at a new address, and from then on it must hold on to the one that it knows.
set -eu
key="$REACHBACK_HOME/enroll-key"
if reachback status --json | grep -q '"relay_url":"'; then rm -f "$key"; fi
if [ -s "$key" ]; then set -- --enroll-file "$key" "$@"; fi
exec reachback host --relay "$REACHBACK_RELAY" --workdir /work --log info "$@"
