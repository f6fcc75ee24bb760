/** Which build of the app this is: the programs that serve it have the same version. */
import { version } from "../package.json";

export const VERSION: string = version;
