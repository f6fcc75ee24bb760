// A pairing code came with the address: take it out of the address bar and the history before anything else.
if (location.hash) {
  history.replaceState(null, "", location.pathname);
  document.documentElement.classList.add("came-with-code");
}
