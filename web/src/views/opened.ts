/** What opens from the lists of hosts and threads, in one script: a first look at those needs none of it. */
export { default as ConnectionPage } from "./ConnectionPage.svelte";
export { default as DevicesPage } from "./DevicesPage.svelte";
export { default as HostPage } from "./HostPage.svelte";
export { default as InboxPage } from "./InboxPage.svelte";
export { default as NewThreadPage } from "./NewThreadPage.svelte";
export { default as ThreadPage } from "./ThreadPage.svelte";
