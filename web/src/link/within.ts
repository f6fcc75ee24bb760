/** Waiting for a peer, but not for ever. */
import { LinkError, type Step } from "./error";

/** What `work` comes to, if it does within `ms` milliseconds; rejects with {@link LinkError} otherwise. */
export async function within<T>(ms: number, step: Step, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new LinkError({ kind: "timedOut", step }));
    }, ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
