# The only entry point. `make` alone prints what there is to make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
LAB_NAME ?= lab
LAB_SUBNET ?= 10.213.10
export LAB_NAME LAB_SUBNET

VENV := $(CURDIR)/.venv
CACHE := $(CURDIR)/.cache
LAB := $(CURDIR)/.lab/$(LAB_NAME)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=DEBIAN_FRONTEND)
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
PLAY := ansible-playbook

DEBIAN_PACKAGES := gnupg iptables mmdebstrap netavark aardvark-dns nftables openssh-client podman runc shellcheck \
                   debian-archive-keyring python3-venv
BROWSER_PACKAGES := chromium chromium-driver libnss3-tools

##@ The lab: the whole service on this machine
.PHONY: lab
lab: $(CACHE)/packages $(VENV)/ready  ## stand up three sites, and print how to use them
	$(PLAY) playbooks/lab/create.yml
	$(PLAY) playbooks/lab/checkin.yml
	@OIDC_ACCESS_TOKEN=$$(playbooks/lab/files/lab-token alice); export OIDC_ACCESS_TOKEN
	@echo; echo '--- alice stands the service up, and submits her share of the unseal key'
	GNUPGHOME=$(LAB)/gpg/alice $(PLAY) playbooks/site.yml
	@echo; echo '--- bob submits his: the first node opens, and the others join it'
	GNUPGHOME=$(LAB)/gpg/bob $(PLAY) playbooks/operate/unseal.yml
	@echo; echo '--- alice submits hers for the nodes that joined, and as an operator who has logged in configures the service'
	GNUPGHOME=$(LAB)/gpg/alice $(PLAY) playbooks/site.yml
	@echo; echo '--- a user gets a resolver and the EGI client on a VM'
	$(PLAY) playbooks/lab/resolver.yml
	$(PLAY) playbooks/deploy/client.yml
	@$(PLAY) playbooks/operate/show-status.yml
	@sed -e 's|@LAB@|$(LAB)|g' -e 's|@SUBNET@|$(LAB_SUBNET)|g' playbooks/lab/files/how-to-use.txt

.PHONY: lab-shell
lab-shell:  ## open a shell on a host of the lab: make lab-shell HOST=vault-infn
	@[[ -n "$${HOST:-}" ]] || { echo "Which host? make lab-shell HOST=vault-iisas|vault-infn|vault-ifca|vault-cesnet|vault-lip|ns-iisas|ns-ifca|dyndns-iisas|checkin|vm|vm-job" >&2; exit 2; }
	address=$$(ansible-inventory --host "$$HOST" | $(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["lab_address"])')
	exec ssh -i $(LAB)/ssh/id_ed25519 -o UserKnownHostsFile=$(LAB)/ssh/known_hosts -o StrictHostKeyChecking=yes root@$(LAB_SUBNET).$$address

.PHONY: lab-token
lab-token:  ## print an access token of a lab person: make lab-token USER=ada
	@$(MAKE) --silent $(VENV)/ready >&2  # the token alone on standard output
	playbooks/lab/files/lab-token $(if $(filter command line,$(origin USER)),"$$USER")

.PHONY: lab-down
lab-down: $(VENV)/ready  ## remove the lab: hosts, network, images, keys
	$(PLAY) playbooks/lab/destroy.yml

##@ Tests
.PHONY: check
check: export VAULT_TEST_BINARY := $(CACHE)/openbao/bao
check: $(CACHE)/packages $(VENV)/ready $(CACHE)/openbao/bao  ## lint, types, unit and the quicker integration tests, without a lab
	@.ci/check

.PHONY: test
test: export VAULT_TEST_BINARY := $(CACHE)/openbao/bao
test: check $(CACHE)/browser-packages  ## everything that CI runs: check, the longer integration tests, and the Molecule stories
	@pytest --quiet --numprocesses 2 -m long tests/integration
	@.ci/stories cluster ceremony refusals access -- failover upgrade

.PHONY: test-full
test-full: test  ## what is too long for CI as well
	@LONG=1 .ci/stories dns failover upgrade keys tls membership product access ceremony -- every-kill
	@.ci/long-simulation

.PHONY: bench
bench: $(CACHE)/packages $(VENV)/ready $(CACHE)/openbao/bao  ## measure the speed goals; prints ratios, writes bench/results
	python bench/playbook.py
	python bench/standup.py
	python bench/config.py

.PHONY: bench-lab
bench-lab: $(VENV)/ready  ## the same on a lab that stands (make lab): failover and upgrade, in an hour and a half
	python bench/upgrade.py
	python bench/failover.py

##@ Upkeep
.PHONY: requirements
requirements: $(VENV)/ready  ## pin requirements.in anew, with hashes
	pip-compile --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-emit-index-url \
	  --no-emit-find-links --quiet --output-file requirements.txt requirements.in

.PHONY: docs
docs: $(VENV)/ready  ## write docs/variables.md from the roles' argument specs, and docs/access.md from the access matrix
	python docs/make_variables.py
	python docs/make_access_matrix.py

.PHONY: clean
clean:  ## remove the venv and what is cached (host images, binaries); a lab that stands is left alone
	rm -rf $(VENV) $(CACHE)

.PHONY: help
help:  ## print this
	@awk 'BEGIN {FS = ":.*## "; print "Secret management service of the EGI Cloud. Make one of:"}
	/^##@ / {printf "\n%s\n", substr($$0, 5)}
	/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- what the above need -----------------------------------------------------------------------------------------------

$(CACHE)/packages: PACKAGES := $(DEBIAN_PACKAGES)
$(CACHE)/browser-packages: PACKAGES := $(BROWSER_PACKAGES)
$(CACHE)/packages $(CACHE)/browser-packages: Makefile
	@mkdir -p $(@D)
	# dpkg-query fails for a package that it never heard of: that is one of the missing.
	missing=$$({ dpkg-query --show --showformat '$${db:Status-Status} $${Package}\n' $(PACKAGES) 2> /dev/null || true; } |
	  awk '$$1 == "installed" {print $$2}' | sort | comm -13 - <(tr ' ' '\n' <<< "$(PACKAGES)" | sort -u) | xargs)
	if [[ -n "$$missing" ]]; then
	  echo "Installing Debian packages: $$missing"
	  $(SUDO) apt-get update --quiet=2
	  export DEBIAN_FRONTEND=noninteractive
	  $(SUDO) apt-get install --quiet=2 --yes --no-install-recommends $$missing > $(CACHE)/apt.log 2>&1 ||
	    { tail -n 20 $(CACHE)/apt.log >&2; exit 1; }
	fi
	touch $@

$(CACHE)/openbao/bao: roles/vault_server/vars/main/releases.yml inventories/lab/group_vars/vault/vault_server.yml | $(VENV)/ready
	@$(PLAY) playbooks/lab/obtain-release.yml

$(VENV)/ready: requirements.txt | $(CACHE)/packages
	@echo "Making the Python environment from pinned requirements (a minute, the first time)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	touch $@
