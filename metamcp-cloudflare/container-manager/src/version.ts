/** Of this Worker and its image: bundles that another version made are made again. */
export const VERSION = "0.1.0";
