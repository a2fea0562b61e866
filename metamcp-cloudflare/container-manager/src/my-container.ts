import { Sandbox } from "@cloudflare/sandbox";

/** A container: one for each environment and each build. The queue decides when they end. */
export class MyContainer extends Sandbox {
  /** Longer than the queue lets an environment idle, so that it is the queue that ends it. */
  override sleepAfter = "30m";
}
