/** What Vite makes of a file that is imported: its address. */
declare module "*.svg" {
  const url: string;
  export default url;
}
